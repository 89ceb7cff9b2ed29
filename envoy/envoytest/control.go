package envoytest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rescind/test/freeport"
)

// NodeName returns the name of control node i, in the files and in the cluster.
func NodeName(i int) string { return fmt.Sprint("control-", i+1) }

// layOut chooses the addresses of all control nodes before the first one starts,
// because the configuration of a node names the others.
func (s *Stack) layOut() (err error) {
	n := s.ControlNodes
	s.Control, s.ControlURLs, s.IntakeURLs = make([]*Process, n), make([]string, n), make([]string, n)
	s.feeds, s.routes = make([]string, n), make([]string, n)
	for i := range n {
		admin, err := freeport.Addr()
		if err != nil {
			return err
		}
		s.ControlURLs[i] = "http://" + admin
		intake, err := freeport.Addr()
		if err != nil {
			return err
		}
		s.IntakeURLs[i] = "http://" + intake
		if s.feeds[i], err = freeport.Addr(); err != nil {
			return err
		}
		if s.routes[i], err = freeport.Addr(); err != nil {
			return err
		}
	}
	return nil
}

// StartControl starts control node i with its addresses and its data, and returns
// when it listens. A node that is alone has read its log then. One of several has
// read it when [Stack.WaitControl] returns.
func (s *Stack) StartControl(ctx context.Context, i int) error {
	name := NodeName(i)
	store := fmt.Sprintf("dir: %q", s.ControlDir(i))
	switch {
	case s.NATS != "":
		store = fmt.Sprintf("nats: {url: %q}", s.NATS)
	case s.ControlNodes > 1:
		peers := append(append([]string{}, s.routes[:i]...), s.routes[i+1:]...)
		store += fmt.Sprintf("\n  cluster: {name: %s, listen: %q, peers: [%s], secret_file: %q}", name, s.routes[i], quoted(peers), filepath.Join(s.Dir, "cluster.secret"))
	}
	text := fmt.Sprintf(`http: {listen: %q}
feed:
  listen: %q
  tokens: [{name: replicas, sha256: %s}%s]
store:
  %s
admin:
  tokens: [{name: operator, sha256: %s, roles: [operator]}%s]
%s%s`, strings.TrimPrefix(s.ControlURLs[i], "http://"), s.feeds[i], Digest(s.feedToken), s.FeedTokens, store, Digest(s.Token), s.AdminTokens, s.intakes(i), s.ControlConfig)
	p, err := s.launch(s.Binary, name, "control", text)
	if err != nil {
		return err
	}
	s.starting.Lock()
	s.Control[i] = p
	s.starting.Unlock()
	_, err = p.Addr(ctx, "admin")
	return err
}

// intakes returns the part of the configuration of control node i about intakes.
func (s *Stack) intakes(i int) string {
	if s.Intakes == nil {
		return ""
	}
	return fmt.Sprintf("intake_http: {listen: %q}\nintake:\n%s\n", strings.TrimPrefix(s.IntakeURLs[i], "http://"), s.Intakes(s.Issuer.URL()))
}

// ControlDir returns the folder with the log of control node i.
func (s *Stack) ControlDir(i int) string { return filepath.Join(s.Dir, NodeName(i)) }

// FeedAddr returns the address of the feed of control node i.
func (s *Stack) FeedAddr(i int) string { return s.feeds[i] }

// WaitControl waits until /readyz of control node i answers 200.
func (s *Stack) WaitControl(ctx context.Context, i int) error {
	return s.poll(ctx, s.Control[i], func() error {
		return s.getJSON(ctx, s.ControlURLs[i]+"/readyz", nil)
	})
}

// Leader waits until a running node reports that it leads the log, and returns
// that node.
func (s *Stack) Leader(ctx context.Context) (int, error) {
	for {
		for _, i := range s.Running() {
			figures, err := s.metrics(ctx, s.ControlURLs[i])
			if err == nil && strings.Contains(figures, "\nrescind_control_leader 1\n") {
				return i, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("no control node reports that it leads: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Running returns the control nodes that can answer. It may be called while
// StartControl replaces one.
func (s *Stack) Running() (nodes []int) {
	s.starting.Lock()
	defer s.starting.Unlock()
	for i, p := range s.Control {
		if p != nil && p.Running() {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

// Admin calls the admin API as an operator. A body that is not nil is sent as
// JSON, and an into that is not nil is filled from a 2xx answer. If a control node
// answers 503, the next one is asked.
func (s *Stack) Admin(ctx context.Context, method, path string, body, into any) (a Answer, err error) {
	err = errors.New("no control node is running")
	for _, i := range s.Running() {
		a, err = s.AdminAt(ctx, i, method, path, body, into)
		if err == nil && a.Status != http.StatusServiceUnavailable || ctx.Err() != nil {
			break
		}
	}
	return a, err
}

// metrics returns the metrics page of a part.
func (s *Stack) metrics(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return "", err
	}
	a, err := s.do(req)
	return string(a.Body), err
}

func (s *Stack) writeSecrets() error {
	for name, secret := range map[string]string{"operator.token": s.Token, "replica.token": s.feedToken, "cluster.secret": s.clusterSecret} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(secret+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// quoted returns the elements of a YAML list, without its brackets.
func quoted(list []string) string {
	out := make([]string, len(list))
	for i, text := range list {
		out[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(out, ", ")
}
