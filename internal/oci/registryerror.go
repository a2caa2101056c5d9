package oci

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// RegistryError is what went wrong between us and a registry. errors.Is finds
// ErrUnauthorized, ErrNoSuchImage and ErrPlainHTTP in it.
type RegistryError struct {
	Op   string // "pull", "push" or "log in"
	Name string // the reference, or the registry
	Host string // of the registry
	Err  error
}

func (e *RegistryError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Name, e.Err) }
func (e *RegistryError) Unwrap() error { return e.Err }

var (
	// ErrUnauthorized: the registry wants credentials, or others.
	ErrUnauthorized = errors.New("access is denied")

	// ErrNoSuchImage: the registry has neither the repository, the tag nor the
	// digest, or does not say.
	ErrNoSuchImage = errors.New("the registry does not have it")

	// ErrPlainHTTP: the registry does not speak https, and http was not allowed.
	ErrPlainHTTP = errors.New("the registry does not speak https")
)

// registryError makes an error of op that says which kind it is.
func registryError(op, name, host string, err error) error {
	if err == nil {
		return nil
	}
	if known := (*RegistryError)(nil); errors.As(err, &known) {
		return err
	}
	return &RegistryError{Op: op, Name: name, Host: host, Err: explainAnswer(err)}
}

// explainAnswer puts what is to be known about an error first; the library's
// own words, with URL and status, follow.
func explainAnswer(err error) error {
	var answered *transport.Error
	switch {
	case errors.Is(err, http.ErrSchemeMismatch), errors.Is(err, errPlainHTTP):
		return fmt.Errorf("%w: %w", ErrPlainHTTP, err)
	case !errors.As(err, &answered):
		return err
	}
	says := func(codes ...transport.ErrorCode) bool {
		return slices.ContainsFunc(answered.Errors, func(d transport.Diagnostic) bool { return slices.Contains(codes, d.Code) })
	}
	switch {
	case answered.StatusCode == http.StatusUnauthorized, answered.StatusCode == http.StatusForbidden,
		says(transport.UnauthorizedErrorCode, transport.DeniedErrorCode):
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	case answered.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNoSuchImage, err)
	}
	return err
}
