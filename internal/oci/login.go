package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Login tries the credentials and keeps them where docker keeps them: in its
// credential helper if its config names one, else in the config itself. It
// returns the name of the file, or of the helper.
func (r *Registries) Login(ctx context.Context, host, user, password string) (keptIn string, err error) {
	keptIn, err = r.login(ctx, host, user, password)
	return keptIn, registryError("log in to", host, host, err)
}

func (r *Registries) login(ctx context.Context, host, user, password string) (string, error) {
	reg, err := name.NewRegistry(host, r.nameOptions(host)...)
	if err != nil {
		return "", err
	}
	if err := r.tryCredentials(ctx, reg, user, password); err != nil {
		return "", err
	}
	file, err := config.Load(os.Getenv(config.EnvOverrideConfigDir))
	if err != nil {
		return "", err
	}
	at := serverAddress(reg)
	entry := types.AuthConfig{ServerAddress: at, Username: user, Password: password}
	if helper(file, at) != "" {
		err = file.GetCredentialsStore(at).Store(entry)
	} else {
		file.AuthConfigs[at] = entry
		err = file.Save()
	}
	if err != nil {
		return "", fmt.Errorf("the credentials are right, but cannot be kept: %w", err)
	}
	return keeper(file, at), nil
}

// tryCredentials fails if the registry does not take them.
func (r *Registries) tryCredentials(ctx context.Context, reg name.Registry, user, password string) error {
	auth := authn.FromConfig(authn.AuthConfig{Username: user, Password: password})
	t, err := transport.NewWithContext(ctx, reg, auth, r.retrying(), nil)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: t, CheckRedirect: checkRedirect}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return transport.CheckError(resp, http.StatusOK)
}

// Logout forgets the credentials for a registry. It tells where they were, and
// whether there were any.
func Logout(host string) (keptIn string, had bool, err error) {
	fail := func(err error) (string, bool, error) { return "", false, fmt.Errorf("log out of %s: %w", host, err) }
	reg, err := name.NewRegistry(host)
	if err != nil {
		return fail(err)
	}
	file, err := config.Load(os.Getenv(config.EnvOverrideConfigDir))
	if err != nil {
		return fail(err)
	}
	at := serverAddress(reg)
	store := file.GetCredentialsStore(at)
	before, err := store.Get(at)
	if err != nil {
		return fail(err)
	}
	if before.Username == "" && before.IdentityToken == "" && before.Auth == "" && before.RegistryToken == "" {
		return keeper(file, at), false, nil
	}
	// Older programs have put them under other spellings of the address.
	for spelled := range file.AuthConfigs {
		if spelled != at && credentials.ConvertToHostname(spelled) == credentials.ConvertToHostname(at) {
			err = errors.Join(err, store.Erase(spelled))
		}
	}
	if err := errors.Join(err, store.Erase(at)); err != nil {
		return fail(err)
	}
	return keeper(file, at), true, nil
}

// serverAddress is the key that credentials are kept under.
func serverAddress(reg name.Registry) string {
	if reg.RegistryStr() == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return reg.RegistryStr()
}

// helper is the credential helper for at; empty if there is none.
func helper(file *configfile.ConfigFile, at string) string {
	if h, ok := file.CredentialHelpers[at]; ok {
		return h
	}
	return file.CredentialsStore
}

// keeper names who keeps the credentials for at.
func keeper(file *configfile.ConfigFile, at string) string {
	if h := helper(file, at); h != "" {
		return "the credential helper " + h
	}
	return file.GetFilename()
}
