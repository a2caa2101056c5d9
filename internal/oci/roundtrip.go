package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// idleTimeout bounds the time in which not one byte comes or goes. There
	// is no bound on the whole: a slow line is no fault.
	idleTimeout = 30 * time.Second

	// answerTimeout bounds the wait for an answer once all has been sent.
	// Registries take minutes to put a large upload into their object store.
	answerTimeout = 2 * time.Minute

	// maxRetryAfter bounds what a registry may ask us to wait.
	maxRetryAfter = 30 * time.Second

	maxRedirects = 10
)

// errStalled is why a request ends that does not get on.
var errStalled = errors.New("nothing came for too long")

// errPlainHTTP is why no request is made.
var errPlainHTTP = errors.New("plain http is only for this machine's own registries, unless it is asked for")

// roundTripper is how this program speaks HTTP, below all that the library does:
//
//   - Plain http goes to loopback addresses, or where it was asked for.
//   - A request that gets no byte on for some time ends, whatever it does.
//   - An answer that is not a blob ends at maxAnswerBytes, with an error. A
//     blob's end is known from its descriptor.
//   - Who is told to come back later waits as long, within bounds.
type roundTripper struct {
	inner     http.RoundTripper
	plainHTTP bool // also to others than loopback
	idle      time.Duration
	answer    time.Duration
}

// maxAnswerBytes is more than any document that is read.
const maxAnswerBytes = maxConfigBytes

func newRoundTripper(plainHTTP bool) *roundTripper {
	return &roundTripper{
		inner: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: idleTimeout, KeepAlive: idleTimeout}).DialContext,
			ForceAttemptHTTP2:     true,
			TLSHandshakeTimeout:   idleTimeout,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   2 * transfers,
			DisableCompression:    true, // what is compressed is the blob itself
		},
		plainHTTP: plainHTTP, idle: idleTimeout, answer: answerTimeout,
	}
}

// blobKey marks the context of a request whose answer may be of any length.
type blobKey struct{}

// RoundTrip implements http.RoundTripper.
func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !t.plainHTTP && !isLoopback(req.URL.Hostname()) {
		return nil, fmt.Errorf("%s: %w", req.URL.Host, errPlainHTTP)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	stall := time.AfterFunc(t.answer, func() { cancel(errStalled) })
	sent := req.WithContext(ctx) // a copy
	if req.Body != nil && req.Body != http.NoBody {
		sent.Body = &upload{ReadCloser: req.Body, stall: stall, answer: t.answer}
	}
	resp, err := t.inner.RoundTrip(sent)
	stall.Stop()
	if err != nil {
		cancel(nil)
		return nil, stalled(ctx, err)
	}
	if err := waitAsTold(ctx, resp); err != nil {
		resp.Body.Close()
		cancel(nil)
		return nil, err
	}
	a := &answer{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, idle: t.idle, left: maxAnswerBytes}
	if req.Context().Value(blobKey{}) != nil {
		a.left = -1
	}
	resp.Body = a
	return resp, nil
}

// stalled replaces the error of a request that was ended because nothing came.
func stalled(ctx context.Context, err error) error {
	if err != nil && err != io.EOF && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// upload is a request's body. Whoever takes a piece of it has got rid of the
// piece before.
type upload struct {
	io.ReadCloser
	stall  *time.Timer
	answer time.Duration
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	u.stall.Reset(u.answer)
	return n, err
}

// answer is a response's body.
type answer struct {
	io.ReadCloser
	ctx    context.Context // of this request
	cancel context.CancelCauseFunc
	idle   time.Duration
	left   int64 // bytes that may still come; negative: any number
}

func (a *answer) Read(p []byte) (int, error) {
	if a.left >= 0 && int64(len(p)) > a.left+1 {
		p = p[:a.left+1]
	}
	// Only the wait for bytes counts, not what their reader does with them.
	stall := time.AfterFunc(a.idle, func() { a.cancel(errStalled) })
	n, err := a.ReadCloser.Read(p)
	stall.Stop()
	if a.left >= 0 {
		if a.left -= int64(n); a.left < 0 {
			a.left = 0
			return 0, fmt.Errorf("%w: it has more than %d bytes", errTooLong, int64(maxAnswerBytes))
		}
	}
	return n, stalled(a.ctx, err)
}

func (a *answer) Close() error {
	err := a.ReadCloser.Close()
	a.cancel(nil)
	return err
}

// errTooLong is what is wrong with an answer that does not end.
var errTooLong = errors.New("the registry's answer is too long")

// waitAsTold waits for as long as an answer of "too many requests" or
// "unavailable" says, before anybody tries again.
func waitAsTold(ctx context.Context, resp *http.Response) error {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return nil
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds <= 0 {
		return nil // there are dates, too; the usual pause will do
	}
	return sleep(ctx, min(time.Duration(seconds)*time.Second, maxRetryAfter))
}

// sleep waits, or fails with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// checkRedirect keeps a registry from sending us to places that only this
// machine can reach, and from https to http. Credentials do not follow to
// another host: the library attaches them to the registry's alone.
func checkRedirect(req *http.Request, via []*http.Request) error {
	from, to := via[0].URL, req.URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case from.Scheme == "https" && to.Scheme != "https":
		return fmt.Errorf("redirect from https to %s: %w", to.Redacted(), errPlainHTTP)
	case to.Hostname() != from.Hostname() && isInternal(to) && !isInternal(from):
		return fmt.Errorf("redirect from %s to the internal address %s is refused", from.Host, to.Host)
	}
	return nil
}

// isLoopback tells whether host is this machine.
func isLoopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// isInternal tells whether u names an address that is not the internet's. What
// other names resolve to is for the network's owner to guard.
func isInternal(u *url.URL) bool {
	if isLoopback(u.Hostname()) {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	return addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || addr.IsMulticast()
}
