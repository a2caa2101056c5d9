package oci

import (
	"net/http"
	"testing"
)

// TestCheckRedirect: where a registry may not send us.
func TestCheckRedirect(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"https://registry.example/v2/x", "https://blobs.example/y", true},
		{"https://registry.example/v2/x", "https://registry.example:8443/y", true},
		{"https://registry.example/v2/x", "http://blobs.example/y", false},
		{"https://registry.example/v2/x", "https://169.254.169.254/latest", false},
		{"https://registry.example/v2/x", "https://[fd00::1]/y", false},
		{"https://registry.example/v2/x", "https://localhost/y", false},
		{"https://registry.example/v2/x", "https://10.0.0.1/y", false},
		{"https://10.0.0.1/v2/x", "https://10.0.0.2/y", true},
		{"http://127.0.0.1:5000/v2/x", "http://127.0.0.1:9000/y", true},
	} {
		request := func(url string) *http.Request {
			r, err := http.NewRequest(http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if err := checkRedirect(request(tc.to), []*http.Request{request(tc.from)}); (err == nil) != tc.ok {
			t.Errorf("from %s to %s: %v", tc.from, tc.to, err)
		}
	}
}
