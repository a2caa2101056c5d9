package oci

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

// seenMap counts by name.
type seenMap struct {
	mu sync.Mutex
	n  map[string]int // guarded by mu
}

func (s *seenMap) next(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = map[string]int{}
	}
	s.n[name]++
	return s.n[name]
}

// dialer connects to one address, whatever is asked for.
type dialer struct{ to string }

func (d *dialer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, d.to)
}

// bearer lets in who has a token for the repository, and gives tokens to user,
// or to anybody if user is empty.
func bearer(g *testRegistry, user, password string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			gotUser, gotPassword, _ := r.BasicAuth()
			if user != "" && (gotUser != user || gotPassword != password) {
				status(http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")(g, w, r)
				return true
			}
			json.NewEncoder(w).Encode(object{"token": "for " + strings.Join(r.URL.Query()["scope"], " ")})
			return true
		}
		token := r.Header.Get("Authorization")
		repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
		repo, _, _ = strings.Cut(repo, "/manifests/")
		action := "pull"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			action = "push"
		}
		ok := strings.HasPrefix(token, "Bearer for")
		if repo != "" {
			_, actions, found := strings.Cut(token, "repository:"+repo+":")
			actions, _, _ = strings.Cut(actions, " ")
			ok = ok && found && strings.Contains(actions, action)
		}
		if ok {
			return false
		}
		scope := ""
		if repo != "" {
			scope = `,scope="repository:` + repo + `:` + action + `"`
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test"`+scope)
		status(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")(g, w, r)
		return true
	}
}

// basic lets in who has the password.
func basic(user, password string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == user && p == password {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// TestLogin logs in, pulls and logs out, with credentials in docker's config and
// in a credential helper.
func TestLogin(t *testing.T) {
	for _, kind := range []string{"basic", "bearer"} {
		for _, helper := range []bool{false, true} {
			name := kind
			if helper {
				name += " with a helper"
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				t.Setenv("HOME", t.TempDir())
				t.Setenv("DOCKER_CONFIG", dir)
				g := newTestRegistry(t)
				g.add("me/app", "1", newTestImage("x"))
				if kind == "basic" {
					g.from(basic("ada", "secret"))
				} else {
					g.from(bearer(g, "ada", "secret"))
				}
				kept := filepath.Join(dir, "config.json")
				if helper {
					kept = "the credential helper test"
					installHelper(t, filepath.Join(dir, "secrets"))
					writeFile(t, filepath.Join(dir, "config.json"), `{"credsStore":"test","psFormat":"kept"}`)
				}
				r := impatient()
				r.keychain = authn.DefaultKeychain
				ctx := context.Background()

				_, err := pullAll(t, r, g.host+"/me/app:1", PullOptions{})
				if !errors.Is(err, ErrUnauthorized) {
					t.Errorf("without credentials: %v", err)
				}
				_, err = r.Login(ctx, g.host, "ada", "wrong")
				if !errors.Is(err, ErrUnauthorized) {
					t.Errorf("wrong password: %v", err)
				}
				wantError(t, err, "log in to "+g.host, "access is denied")
				if in, err := r.Login(ctx, g.host, "ada", "secret"); err != nil || in != kept {
					t.Fatalf("kept in %q (error: %v), want %q", in, err, kept)
				}
				config, err := os.ReadFile(filepath.Join(dir, "config.json"))
				if err != nil {
					t.Fatal(err)
				}
				secret := base64.StdEncoding.EncodeToString([]byte("ada:secret"))
				if strings.Contains(string(config), secret) == helper {
					t.Errorf("the config is %s", config)
				}
				if helper && !strings.Contains(string(config), "psFormat") {
					t.Errorf("the config has lost what is docker's: %s", config)
				}
				if _, err := pullAll(t, r, g.host+"/me/app:1", PullOptions{}); err != nil {
					t.Error(err)
				}
				for _, want := range []bool{true, false} {
					if in, had, err := Logout(g.host); err != nil || had != want || in != kept {
						t.Errorf("logout: from %q, had %v (error: %v), want %v", in, had, err, want)
					}
				}
				if _, err := pullAll(t, r, g.host+"/me/app:1", PullOptions{}); !errors.Is(err, ErrUnauthorized) {
					t.Errorf("after logout: %v", err)
				}
			})
		}
	}
}

// TestLogoutOfOldSpellings: what docker once wrote is forgotten, too, and what
// is another registry's is not.
func TestLogoutOfOldSpellings(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("DOCKER_CONFIG", dir)
	writeFile(t, filepath.Join(dir, "config.json"), `{"auths":{
		"https://registry.example/v2/":{"auth":"YWRhOnNlY3JldA=="}, "registry.example:5000":{"auth":"YWRhOnNlY3JldA=="}}}`)
	if _, had, err := Logout("registry.example"); err != nil || !had {
		t.Errorf("had %v (error: %v)", had, err)
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(config), "registry.example/v2") || !strings.Contains(string(config), "registry.example:5000") {
		t.Errorf("the config is %s", config)
	}
}

// installHelper puts a credential helper called test into the PATH: a shell
// script over a directory.
func installHelper(t *testing.T, dir string) {
	t.Helper()
	bin := t.TempDir()
	writeFile(t, filepath.Join(bin, "docker-credential-test"), `#!/bin/sh
set -eu
dir='`+dir+`'
mkdir -p "$dir"
key() { printf %s "$1" | tr -c 'a-zA-Z0-9.\n' _; }
case $1 in
store) in=$(cat); url=$(printf %s "$in" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/'); printf %s "$in" >"$dir/$(key "$url")" ;;
get) f="$dir/$(key "$(cat)")"; [ -f "$f" ] || { echo 'credentials not found in native keychain'; exit 1; }; cat "$f" ;;
erase) rm -f "$dir/$(key "$(cat)")" ;;
list) echo '{}' ;;
esac
`)
	if err := os.Chmod(filepath.Join(bin, "docker-credential-test"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func writeFile(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}
