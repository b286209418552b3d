package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/connlimit"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
)

// debugConns bounds the connections to the profiles: there are few readers.
const debugConns = 16

// serveProfiles serves Go profiles at a loopback address, until the returned
// function is called. They show what the sidecar does and nothing of the tasks.
func serveProfiles(addr string, log *slog.Logger) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &config.Error{Err: fmt.Errorf("SIDECAR_DEBUG_ADDR: %w", err)}
	}
	mux := http.NewServeMux() // not the default one, which any package may add to
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	// Another site's page whose name was made to lead here reads nothing.
	address, _ := listener.Addr().(*net.TCPAddr)
	guard := httpauth.Rules{Loopback: address != nil && address.IP.IsLoopback()}
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: guard.Guard(mux), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Minute,                                  // the longest profile
		BaseContext:  func(net.Listener) context.Context { return ctx }, // its end ends a profile that is being taken
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	limiter := connlimit.New(debugConns)
	limiter.Guard(server)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = server.Serve(limiter.Listener(listener)) // it ends with Close
	}()
	log.Info("profiles are served", "url", "http://"+listener.Addr().String()+"/debug/pprof/")
	return func() {
		cancel()
		_ = server.Close()
		<-over
	}, nil
}
