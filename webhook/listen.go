package webhook

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 90 * time.Second
	maxHeader         = 32 << 10
	// stopTimeout is how long requests under way may take after the end was asked for.
	stopTimeout = 10 * time.Second
)

// Listen opens the addresses, all or none. Port 0 takes a free one.
func Listen(ctx context.Context, addresses []string) ([]net.Listener, error) {
	if len(addresses) == 0 {
		return nil, errors.New("no address to listen on")
	}
	var (
		config    net.ListenConfig
		listeners []net.Listener
	)
	for _, address := range addresses {
		l, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			for _, open := range listeners {
				err = errors.Join(err, open.Close())
			}
			return nil, fmt.Errorf("listen on %q: %w", address, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// Run serves on the listeners until ctx ends and then lets requests under way
// finish, at most 10 s. webConfig is the exporter-toolkit's file for TLS, client
// certificates and basic authentication, empty for none. The listeners are closed
// when it returns. It blocks; nil means that ctx ended.
func (s *Server) Run(ctx context.Context, listeners []net.Listener, webConfig string) error {
	if err := s.CheckWebConfig(webConfig); err != nil {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	systemd := false
	var (
		wg      sync.WaitGroup
		servers []*http.Server
		ended   = make(chan error, len(listeners))
	)
	pages, endPages := context.WithCancel(ctx)
	s.page.Begin(pages) // before the first stream can be taken
	wg.Go(func() { s.page.Run(pages) })
	for _, l := range listeners {
		// One http.Server for each listener: the toolkit wraps the handler of the
		// server it is given, which two of them must not do to the same one.
		server := s.httpServer()
		servers = append(servers, server)
		flags := &web.FlagConfig{WebListenAddresses: &[]string{l.Addr().String()}, WebSystemdSocket: &systemd, WebConfigFile: &webConfig}
		wg.Go(func() {
			if err := web.Serve(l, server, flags, s.log); !errors.Is(err, http.ErrServerClosed) {
				ended <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
		})
	}
	var result error
	select {
	case <-ctx.Done():
	case result = <-ended:
	}
	endPages() // their streams would keep the server from ending
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for _, server := range servers {
		if err := server.Shutdown(stop); err != nil {
			s.log.Warn("requests under way were cut off", "err", err)
			result = errors.Join(result, server.Close())
		}
	}
	for _, l := range listeners {
		// The toolkit does not close a listener whose configuration it refused.
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			result = errors.Join(result, err)
		}
	}
	wg.Wait()
	return result
}

// httpServer returns a server whose limits hold against slow clients.
func (s *Server) httpServer() *http.Server {
	limit := newConns(s.opts.MaxConnections, s.metrics.dropped)
	return &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       limit.opened,
		ConnState:         limit.changed,
		ErrorLog:          log.New(handshakes{s}, "", 0),
	}
}

// CheckWebConfig reads the exporter-toolkit's file and reports what is wrong with
// it, among it the two authentications that exclude each other: both want the
// Authorization header. An empty name is right.
func (s *Server) CheckWebConfig(file string) error {
	return CheckWebConfig(file, len(s.tokens.Load().files) > 0)
}

// CheckWebConfig is that of a server that has bearer tokens or has none.
func CheckWebConfig(file string, tokens bool) error {
	if file == "" {
		return nil
	}
	if err := web.Validate(file); err != nil {
		return fmt.Errorf("web configuration %s: %w", file, err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("web configuration: %w", err)
	}
	var config struct {
		Users map[string]any `yaml:"basic_auth_users"`
	}
	if err := yaml.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("web configuration %s: %w", file, err)
	}
	if len(config.Users) > 0 && tokens {
		return fmt.Errorf("web configuration %s: basic_auth_users and scalehook's bearer tokens exclude each other, both need the Authorization header: "+
			"remove basic_auth_users, or the tokens (and use client certificates instead)", file)
	}
	return nil
}
