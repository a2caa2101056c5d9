package fusefs

import (
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

func TestPOSIX(t *testing.T) {
	for name, o := range map[string]Options{
		"passthrough":     {AllowOther: true},
		"passthrough off": {AllowOther: true, Passthrough: PassthroughOff},
		"observe":         {AllowOther: true, Observe: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t, o, nil)
			for check, fn := range posixtest.All {
				if check == "FcntlFlockLocksFile" {
					continue // wants two locks of one process to conflict, which no filesystem does
				}
				t.Run(check, func(t *testing.T) {
					if err := os.Mkdir(m.path(check), 0o755); err != nil {
						t.Fatal(err)
					}
					fn(t, m.path(check))
				})
			}
		})
	}
}
