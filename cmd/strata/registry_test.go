package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
)

// giveRegistries makes two registries for a script, at $REGISTRY and, for user
// ada with the password secret, at $LOCKED; and a directory of its own for
// credentials.
func giveRegistries(env *testscript.Env) {
	start := func(variable string, h http.Handler) {
		server := httptest.NewServer(h)
		env.Defer(server.Close)
		env.Setenv(variable, strings.TrimPrefix(server.URL, "http://"))
	}
	start("REGISTRY", newMemoryRegistry())
	locked := newMemoryRegistry()
	start("LOCKED", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ada" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`, http.StatusUnauthorized)
			return
		}
		locked.ServeHTTP(w, r)
	}))
	env.Setenv("DOCKER_CONFIG", env.WorkDir+"/docker-config")
}

func newMemoryRegistry() http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)))
}
