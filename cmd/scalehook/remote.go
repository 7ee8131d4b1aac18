package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/client"
)

// Environment variables of the commands that ask a server.
const (
	envURL        = "SCALEHOOK_URL"
	envTokenFile  = "SCALEHOOK_TOKEN_FILE"
	envHTTPConfig = "SCALEHOOK_HTTP_CONFIG_FILE"
)

// remote holds what every command that asks a server has in common.
type remote struct {
	url, tokenFile            string
	caFile, certFile, keyFile string
	httpConfig                string
	output                    string
	timeout                   time.Duration
}

// newRemote takes the defaults from the environment.
func newRemote(getenv func(string) string) *remote {
	r := &remote{url: getenv(envURL), tokenFile: getenv(envTokenFile), httpConfig: getenv(envHTTPConfig)}
	if r.url == "" {
		r.url = "http://127.0.0.1:10070"
	}
	return r
}

// flags adds the common flags to a command and returns it.
func (r *remote) flags(cmd *cobra.Command) *cobra.Command {
	r.connection(cmd)
	f := cmd.Flags()
	f.DurationVar(&r.timeout, "timeout", 30*time.Second, "how long to wait for the server")
	outputFlag(f, &r.output)
	return cmd
}

// connection adds the flags that say how the server is reached.
func (r *remote) connection(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.url, "url", r.url, "where the server is reached (environment: "+envURL+")")
	f.StringVar(&r.tokenFile, "token-file", r.tokenFile, "file with the bearer token (environment: "+envTokenFile+")")
	f.StringVar(&r.caFile, "tls.ca-file", "", "authority that signed the server's certificate (default: the system's)")
	f.StringVar(&r.certFile, "tls.cert-file", "", "client certificate to show to the server")
	f.StringVar(&r.keyFile, "tls.key-file", "", "key of the client certificate")
	f.StringVar(&r.httpConfig, "http.config.file", r.httpConfig,
		"how to connect, in the form of the Prometheus family's tools: tls_config, authorization, basic_auth, proxy_url (environment: "+envHTTPConfig+")")
}

// ask calls f with a client and a deadline and prints what it returns.
func ask[T any](cmd *cobra.Command, r *remote, f func(context.Context, *client.Client) (T, error), table func(*table, T)) error {
	if err := checkFormat(r.output); err != nil {
		return err
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
	defer cancel()
	out, err := f(ctx, c)
	if err != nil {
		return err
	}
	return show(cmd.OutOrStdout(), r.output, out, table)
}

func (r *remote) client() (*client.Client, error) { return r.open(r.options()) }

func (r *remote) options() client.Options {
	return client.Options{
		URL: r.url, TokenFile: r.tokenFile, CAFile: r.caFile, CertFile: r.certFile, KeyFile: r.keyFile,
		UserAgent: "scalehook/" + version.Version,
	}
}

// open makes a client of the options and of the file that says how to connect.
func (r *remote) open(opts client.Options) (*client.Client, error) {
	if r.httpConfig != "" {
		if r.caFile != "" || r.certFile != "" || r.keyFile != "" {
			return nil, usageError{errors.New("--http.config.file and --tls.…: one of them, the file has a tls_config")}
		}
		h, err := httpClient(r.httpConfig)
		if err != nil {
			return nil, usageError{err}
		}
		opts.HTTP = h
	}
	c, err := client.New(opts)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// httpClient is what a file of the Prometheus family says. Certificates and tokens
// that it names are read again when they change.
func httpClient(file string) (*http.Client, error) {
	c, _, err := promconfig.LoadHTTPConfigFile(file)
	if err != nil {
		return nil, fmt.Errorf("--http.config.file %s: %w", file, err)
	}
	c.FollowRedirects = false // it would turn an order into a GET, or send the token elsewhere
	h, err := promconfig.NewClientFromConfig(*c, "scalehook")
	if err != nil {
		return nil, fmt.Errorf("--http.config.file %s: %w", file, err)
	}
	return h, nil
}
