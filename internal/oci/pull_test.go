package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPull(t *testing.T) {
	g, img := newTestRegistry(t), newTestImage("base", "top")
	d := g.add("me/app", "1", img)
	for _, name := range []string{"/me/app:1", "/me/app@" + fmt.Sprint(d["digest"]), "/me/app:other@" + fmt.Sprint(d["digest"])} {
		got, err := pullAll(t, impatient(), g.host+name, PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Digest() != d["digest"] || got.ManifestType != ociManifest || !bytes.Equal(got.Config, img.config) || len(got.Layers) != 2 {
			t.Errorf("%s: another image: %+v", name, got)
		}
	}

	// What is known does not come again.
	g.from(nil)
	known := func(d Digest) []byte {
		if d == DigestBytes(img.config) {
			return img.config
		}
		return nil
	}
	if _, err := pullAll(t, impatient(), g.host+"/me/app:1", PullOptions{Known: known}); err != nil {
		t.Fatal(err)
	}
	if n := g.count("GET", DigestBytes(img.config).Hex()); n != 0 {
		t.Errorf("the config was asked for %d times, though it is known", n)
	}
}

// TestPullPlatform takes images out of an index.
func TestPullPlatform(t *testing.T) {
	for _, indexType := range []string{ociIndex, "application/vnd.docker.distribution.manifest.list.v2+json"} {
		g := newTestRegistry(t)
		ours, other, arm := newTestImage("ours"), newTestImage("other"), newTestImage("arm")
		platform := func(d object, os, arch, variant string) object {
			return with(d, object{"platform": object{"os": os, "architecture": arch, "variant": variant}})
		}
		foreign := "s390x"
		dOurs, dOther, dArm := g.add("app", "a", ours), g.add("app", "b", other), g.add("app", "c", arm)
		index := encode(object{"schemaVersion": 2, "mediaType": indexType, "manifests": list{
			platform(dOther, "linux", foreign, ""), platform(dArm, "linux", "arm", "v7"),
			platform(dOurs, "linux", runtime.GOARCH, ""), platform(dOther, "unknown", "unknown", ""),
		}})
		g.do(http.MethodPut, "/v2/app/manifests/1", indexType, index)
		for _, tc := range []struct {
			platform string
			want     object
		}{{"", dOurs}, {"linux/" + runtime.GOARCH, dOurs}, {"arm", dArm}, {"linux/arm/v7", dArm}} {
			var o PullOptions
			if tc.platform != "" {
				var err error
				if o.Platform, err = ParsePlatform(tc.platform); err != nil {
					t.Fatal(err)
				}
			}
			// The images are all made for amd64, as they say.
			img, err := pullAll(t, impatient(), g.host+"/app:1", o)
			if tc.want["digest"] == dArm["digest"] {
				wantError(t, err, "the image is for linux/amd64, not for linux/arm")
				continue
			}
			if err != nil || img.Digest() != tc.want["digest"] {
				t.Errorf("%s: %v (error: %v), want %v", tc.platform, img, err, tc.want)
			}
		}
		_, err := pullAll(t, impatient(), g.host+"/app:1", PullOptions{Platform: Platform{OS: "linux", Architecture: "riscv64"}})
		wantError(t, err, "no image for linux/riscv64", "linux/s390x", "linux/arm/v7")
	}
}

// TestPullOverBadLine: what a registry and the way to it may do without keeping
// an image from coming.
func TestPullOverBadLine(t *testing.T) {
	img := newTestImage(noise(900<<10), "top")
	type handler = func(w http.ResponseWriter, r *http.Request) bool
	for _, tc := range []struct {
		name string
		make func(g *testRegistry) handler
		want func(t *testing.T, g *testRegistry)
	}{
		{"cut again and again, goes on with Range", func(g *testRegistry) handler {
			return func(w http.ResponseWriter, r *http.Request) bool {
				return isBlob(r, img) && cut(g, w, r, 300<<10, true)
			}
		}, func(t *testing.T, g *testRegistry) {
			if n := g.count("GET", "/blobs/"); n > 8 {
				t.Errorf("%d requests", n)
			}
		}},
		{"cut, no Range", func(g *testRegistry) handler {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) bool {
				return isBlob(r, img) && n.Add(1) < 4 && cut(g, w, r, 200<<10*int(n.Load()), false)
			}
		}, nil},
		{"cut, and not one who gives ranges", func(g *testRegistry) handler {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
					return true
				}
				return isBlob(r, img) && n.Add(1) < 4 && cut(g, w, r, 200<<10*int(n.Load()), false)
			}
		}, nil},
		{"manifest and config cut", func(g *testRegistry) handler {
			seen := newSeen(2)
			return func(w http.ResponseWriter, r *http.Request) bool {
				return !isBlob(r, img) && r.URL.Path != "/v2/" && seen(r) && cut(g, w, r, 10, false)
			}
		}, nil},
		{"busy", func(g *testRegistry) handler {
			seen := newSeen(2)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !seen(r) {
					return false
				}
				w.Header().Set("Retry-After", "0")
				w.WriteHeader([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[len(r.URL.Path)%2])
				return true
			}
		}, nil},
		{"silent at first", func(g *testRegistry) handler {
			seen := newSeen(1)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlob(r, img) || !seen(r) {
					return false
				}
				<-r.Context().Done()
				return true
			}
		}, nil},
		{"silent in mid-blob", func(g *testRegistry) handler {
			seen := newSeen(1)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlob(r, img) || !seen(r) {
					return false
				}
				body := answerOf(g, r)
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				w.Write(body[:len(body)/2])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			}
		}, nil},
		{"slow, but steady", func(g *testRegistry) handler {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlob(r, img) || r.Header.Get("Range") != "" {
					return false
				}
				body := answerOf(g, r)
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				for len(body) > 0 { // longer in all than nothing may come
					n := min(len(body), 150<<10)
					w.Write(body[:n])
					w.(http.Flusher).Flush()
					body = body[n:]
					time.Sleep(120 * time.Millisecond)
				}
				return true
			}
		}, func(t *testing.T, g *testRegistry) {
			if n := g.count("GET", "/blobs/"); n > 3 {
				t.Logf("%d requests: this machine is slower still", n)
			}
		}},
		{"redirects", func(g *testRegistry) handler {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Has("there") || r.URL.Path == "/v2/" {
					return false
				}
				http.Redirect(w, r, r.URL.Path+"?there", http.StatusTemporaryRedirect)
				return true
			}
		}, nil},
		{"media type not said", func(g *testRegistry) handler {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Content-Type", "text/plain; charset=utf-8")
				w.Write(answerOf(g, r))
				return true
			}
		}, nil},
		{"a token for each repository", func(g *testRegistry) handler { return bearer(g, "", "") }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newTestRegistry(t)
			d := g.add("me/app", "1", img)
			g.from(tc.make(g))
			r := impatient()
			got, err := pullAll(t, r, g.host+"/me/app:1", PullOptions{})
			if err != nil || got.Digest() != d["digest"] {
				t.Fatalf("%v (error: %v)", got, err)
			}
			if tc.want != nil {
				tc.want(t, g)
			}
		})
	}
}

// TestPullFails: what a registry may do that ends a pull, with a clear word.
func TestPullFails(t *testing.T) {
	img := newTestImage("base", noise(600<<10))
	is := func(part string) func(*http.Request) bool {
		return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
	}
	layer := func(r *http.Request) bool { return isBlob(r, img) }
	config := is(string(DigestBytes(img.config)))
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.Write(make([]byte, 64<<10))
		}
	}
	for _, tc := range []struct {
		name   string
		when   func(*http.Request) bool
		answer func(g *testRegistry, w http.ResponseWriter, r *http.Request)
		says   []string
		kind   error
	}{
		{"cut for ever", layer, func(g *testRegistry, w http.ResponseWriter, r *http.Request) { cut(g, w, r, 100, false) },
			[]string{"layer 2 of 2", "breaks off again and again"}, io.ErrUnexpectedEOF},
		{"silent for ever", layer, func(_ *testRegistry, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			[]string{"layer 1 of 2", "nothing came for too long"}, errStalled},
		{"busy for ever", is("/manifests/"), status(http.StatusTooManyRequests, "TOOMANYREQUESTS", "you have reached your pull rate limit"),
			[]string{"pull rate limit"}, nil},
		{"other bytes", layer, func(g *testRegistry, w http.ResponseWriter, r *http.Request) {
			body := bytes.Clone(answerOf(g, r))
			body[len(body)-9] ^= 1
			w.Write(body)
		}, []string{"layer 1 of 2", "hash to sha256:"}, ErrCorrupt},
		{"longer than declared", layer, func(g *testRegistry, w http.ResponseWriter, r *http.Request) {
			w.Write(append(answerOf(g, r), "more"...))
		}, []string{"layer 1 of 2", "the registry wants to send"}, ErrCorrupt},
		{"without an end", layer, func(g *testRegistry, w http.ResponseWriter, r *http.Request) {
			w.Write(answerOf(g, r))
			endless(w, r)
		}, []string{"layer 1 of 2", "bytes follow the"}, ErrCorrupt},
		{"shorter than declared", layer, func(g *testRegistry, w http.ResponseWriter, r *http.Request) {
			body := answerOf(g, r)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)-1))
			w.Write(body[:len(body)-1])
		}, []string{"layer 1 of 2", "the registry wants to send"}, ErrCorrupt},
		{"another range", layer, func(g *testRegistry, w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				cut(g, w, r, 1000, false)
				return
			}
			w.Header().Set("Content-Range", "bytes 0-99/100")
			w.WriteHeader(http.StatusPartialContent)
		}, []string{"asked for what follows byte", `"bytes 0-99/100"`}, nil},
		{"no such layer", layer, status(http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown"),
			[]string{"layer 1 of 2", "get it from 127.0.0.1:", "the registry does not have it"}, ErrNoSuchImage},
		{"no right to a layer", layer, status(http.StatusForbidden, "DENIED", "not you"),
			[]string{"layer 1 of 2", "access is denied", "not you"}, ErrUnauthorized},
		{"endless manifest", is("/manifests/"), func(_ *testRegistry, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ociManifest)
			endless(w, r)
		}, []string{"too long", "more than 8388608 bytes"}, errTooLong},
		{"huge manifest", is("/manifests/"), func(_ *testRegistry, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000000000000")
			w.WriteHeader(http.StatusOK)
		}, []string{"1000000000000 bytes"}, errTooLong},
		{"endless config", config, func(_ *testRegistry, w http.ResponseWriter, r *http.Request) { endless(w, r) },
			[]string{"config sha256:", "too long"}, errTooLong},
		{"endless ping", func(r *http.Request) bool { return r.URL.Path == "/v2/" },
			func(_ *testRegistry, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
				w.WriteHeader(http.StatusUnauthorized)
				endless(w, r)
			}, nil, nil},
		{"another config", config, func(_ *testRegistry, w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) },
			[]string{"config sha256:", "2 bytes that hash to"}, ErrCorrupt},
		{"a lie about the manifest's digest", is("/manifests/"), func(g *testRegistry, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			w.Header().Set("Content-Type", ociManifest)
			w.Write(answerOf(g, r))
		}, []string{"the registry calls it", "hash to sha256:"}, ErrCorrupt},
		{"a page", is("/manifests/"), func(_ *testRegistry, w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte("<html>Sign in to the hotel's network</html>"))
		}, []string{"is no manifest", "is this a registry?"}, nil},
		{"schema 1", is("/manifests/"), func(_ *testRegistry, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
			w.Write([]byte("{}"))
		}, []string{"schema 1, which is not supported"}, nil},
		{"round in circles", is("/manifests/"), func(_ *testRegistry, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, []string{"redirects"}, nil},
		{"redirect to plain http elsewhere", is("/manifests/"), func(_ *testRegistry, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://registry.example/"+r.URL.Path, http.StatusTemporaryRedirect)
		}, []string{"registry.example", "plain http is only for this machine's own registries"}, ErrPlainHTTP},
		{"no such image", is("/manifests/"), status(http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown"),
			[]string{"the registry does not have it", "manifest unknown"}, ErrNoSuchImage},
		{"no right to it", is("/manifests/"), status(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required"),
			[]string{"access is denied", "authentication required"}, ErrUnauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newTestRegistry(t)
			g.add("me/app", "1", img)
			g.from(func(w http.ResponseWriter, r *http.Request) bool {
				if !tc.when(r) {
					return false
				}
				tc.answer(g, w, r)
				return true
			})
			r := impatient()
			if strings.Contains(tc.name, "silent") {
				r.tripper.idle, r.tripper.answer = r.tripper.idle/3, r.tripper.answer/3
			}
			_, err := pullAll(t, r, g.host+"/me/app:1", PullOptions{})
			wantError(t, err, append(tc.says, "me/app")...)
			if tc.kind != nil && !errors.Is(err, tc.kind) {
				t.Errorf("error %q is no %q", err, tc.kind)
			}
		})
	}
}

// TestPlainHTTP: nothing is said in the clear over a network.
func TestPlainHTTP(t *testing.T) {
	g := newTestRegistry(t)
	g.add("app", "1", newTestImage("x"))
	_, port, _ := strings.Cut(g.host, ":")
	r := impatient()
	// Every name is this server here, so only the name says how far it is.
	tr := r.tripper.inner.(*http.Transport)
	tr.Proxy = nil
	tr.DialContext = (&dialer{g.host}).dial
	for host, loopback := range map[string]bool{
		"127.0.0.1": true, "127.8.8.8": true, "localhost": true, "dev.localhost": true, "[::1]": true,
		"10.1.2.3": false, "registry.example": false, "localhost.example": false,
	} {
		ref := host + ":" + port + "/app:1"
		r.tripper.plainHTTP = false
		switch _, err := pullAll(t, r, ref, PullOptions{}); {
		case loopback && err != nil:
			t.Errorf("%s: %v", host, err)
		case !loopback:
			wantError(t, err, "does not speak https")
			if !errors.Is(err, ErrPlainHTTP) {
				t.Errorf("%s: error %v is no ErrPlainHTTP", host, err)
			}
		}
		r.tripper.plainHTTP = true
		if _, err := pullAll(t, r, ref, PullOptions{}); err != nil {
			t.Errorf("%s, where plain http was asked for: %v", host, err)
		}
	}
}

// status answers as registries do when they refuse.
func status(code int, errorCode, message string) func(*testRegistry, http.ResponseWriter, *http.Request) {
	return func(_ *testRegistry, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		w.Write(encode(object{"errors": list{object{"code": errorCode, "message": message}}}))
	}
}

// answerOf is what the registry itself would answer.
func answerOf(g *testRegistry, r *http.Request) []byte {
	rec := httptest.NewRecorder()
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	g.inner.ServeHTTP(rec, whole)
	return rec.Body.Bytes()
}

// cut answers with n bytes at most and then closes the connection, if there are
// more. It gives ranges only if it is told to.
func cut(g *testRegistry, w http.ResponseWriter, r *http.Request, n int, ranges bool) bool {
	body, code := answerOf(g, r), http.StatusOK
	if strings.Contains(r.URL.Path, "/manifests/") {
		w.Header().Set("Content-Type", ociManifest)
	}
	from := 0
	if got := r.Header.Get("Range"); ranges && got != "" {
		first, _, _ := strings.Cut(strings.TrimPrefix(got, "bytes="), "-")
		from, _ = strconv.Atoi(first)
		code = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
	}
	body = body[from:]
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if len(body) <= n {
		w.Write(body)
		return true
	}
	w.Write(body[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// newSeen tells of each path whether it is asked for one of the first n times.
func newSeen(n int) func(*http.Request) bool {
	var mu seenMap
	return func(r *http.Request) bool { return mu.next(r.Method+r.URL.Path) <= n }
}
