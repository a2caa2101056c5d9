package oci

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// transfers is how many blobs are sent at once. Docker pulls three at once and
// pushes five; more only share the same line.
const transfers = 4

// RegistryOptions say how registries are spoken to; the zero value is useful.
type RegistryOptions struct {
	// PlainHTTP allows http where https is not spoken. Without it, that is
	// allowed to loopback addresses alone.
	PlainHTTP bool

	// Logger hears of connections that broke off and are made again. May be nil.
	Logger *slog.Logger
}

// Registries speaks to registries, with the credentials that docker login,
// podman login and [Registries.Login] keep.
type Registries struct {
	tripper  *roundTripper
	keychain authn.Keychain
	retry    transport.Backoff // between tries of one request
	log      *slog.Logger
}

// NewRegistries makes a client. It opens nothing yet.
func NewRegistries(o RegistryOptions) *Registries {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Registries{
		log:      log,
		tripper:  newRoundTripper(o.PlainHTTP),
		keychain: authn.DefaultKeychain,
		retry:    transport.Backoff{Duration: time.Second, Factor: 3, Jitter: 0.1, Steps: 4},
	}
}

// retried are the answers after which the same request may succeed.
var retried = []int{
	http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// errCut is wrapped where an answer ended in its midst.
var errCut = errors.New("the connection broke off")

// isTemporary tells whether the same request may succeed when it is made again.
// A refused connection is not temporary: whoever misspelled a port wants to
// know at once.
func isTemporary(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var timeout net.Error
	var temporary interface{ Temporary() bool }
	return errors.Is(err, errStalled) || errors.Is(err, errCut) && !errors.Is(err, errTooLong) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &timeout) && timeout.Timeout() ||
		errors.As(err, &temporary) && temporary.Temporary()
}

func (r *Registries) nameOptions(host string) []name.Option {
	bare := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		bare = h
	}
	if r.tripper.plainHTTP || isLoopback(strings.Trim(bare, "[]")) {
		return []name.Option{name.Insecure} // https is tried first all the same
	}
	return nil
}

func (r *Registries) repository(ref Reference) (name.Repository, error) {
	return name.NewRepository(ref.repository, r.nameOptions(ref.Host())...)
}

// client is an HTTP client that may do what scope says in repo.
func (r *Registries) client(ctx context.Context, repo name.Repository, scope string) (*http.Client, error) {
	auth, err := authn.Resolve(ctx, r.keychain, repo)
	if err != nil {
		return nil, err
	}
	t, err := transport.NewWithContext(ctx, repo.Registry, auth, r.retrying(), []string{repo.Scope(scope)})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t, CheckRedirect: checkRedirect}, nil
}

// retrying makes a request again that has failed for a reason that may pass.
func (r *Registries) retrying() http.RoundTripper {
	return transport.NewRetry(r.tripper, transport.WithRetryBackoff(r.retry),
		transport.WithRetryPredicate(isTemporary), transport.WithRetryStatusCodes(retried...))
}
