package layerstore

import (
	"testing"
	"time"
)

// SetPatience makes gc less patient for one test, which must be alone.
func SetPatience(t *testing.T, d time.Duration) {
	was := patience
	patience = d
	t.Cleanup(func() { patience = was })
}
