package envoytest

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"
)

// Seen is the upstream's answer: the request that reached it.
type Seen struct {
	Path   string      `json:"path"`
	Query  string      `json:"query"`
	Header http.Header `json:"headers"`
}

// upstream is the service behind the gateway. It answers with a [Seen].
type upstream struct {
	addr   string
	server *http.Server
	done   chan struct{}
}

func startUpstream() (*upstream, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{addr: l.Addr().String(), done: make(chan struct{})}
	u.server = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == StreamPath {
			stream(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Seen{r.URL.Path, r.URL.RawQuery, r.Header})
	})}
	go func() {
		defer close(u.done)
		if err := u.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // a loopback listener of this process does not fail
		}
	}()
	return u, nil
}

// StreamPath is a path whose answer has no end.
const StreamPath = "/stream"

// stream sends one event and then waits until the client has gone.
func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = w.Write([]byte("data: open\n\n"))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func (u *upstream) close() {
	_ = u.server.Close()
	<-u.done
}
