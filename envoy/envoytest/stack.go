package envoytest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"rescind/jwks/jwkstest"
	"rescind/test/freeport"
)

// Options of a [Stack].
type Options struct {
	Binary string // the rescind program
	// ReplicaBinary is another rescind program for the replicas, for example of
	// another version. Empty: Binary.
	ReplicaBinary string
	Envoy         string // an Envoy, from Find
	Dir           string // configuration, logs and data; must exist
	Replicas      int    // default 2
	GatewayPort   int    // default: any free one
	// ControlNodes is 1, the default, for a control endpoint alone, or 3 or 5
	// for a cluster.
	ControlNodes int
	// NATS is the URL of a NATS that keeps the log for all control nodes, instead
	// of their own logs.
	NATS string
	// Authz continues the top level of each replica's configuration, Issuer its
	// issuer (indented by four spaces), Revocation its section revocation (by two).
	// ControlConfig continues the top level of each control node's configuration.
	Authz, Issuer, Revocation, ControlConfig string
	// Module is the folder of librescind.so. With it the gateway answers by itself for
	// tokens that the first replica knows, and asks this replica alone about others.
	Module string
	// Known continues the section known_tokens of the first replica, for example
	// ", audit: 0".
	Known string
	// Workers is the number of workers of Envoy, default 2.
	Workers int
	// Intakes, if not nil, returns the entries of intake: in each control node's
	// configuration for the issuer with this URL. Each node then listens for their
	// senders.
	Intakes func(issuer string) string
	// ReplicaAddrs are the addresses on which the replicas serve Envoy. Empty: free
	// ones. ReplicaGRPC continues the section grpc of each replica, for example
	// ", tls: {…}".
	ReplicaAddrs []string
	ReplicaGRPC  string
	// Bootstrap, if not nil, returns another configuration of Envoy than the one of
	// [Stack.Shipped], once the replicas are ready.
	Bootstrap func(s *Stack) ([]byte, error)
	// AdminTokens and FeedTokens continue the lists of credentials of each control
	// node, for example ", {name: viewer, sha256: …, roles: [viewer]}".
	AdminTokens, FeedTokens string
	// Feeds, if not nil, puts something between the replicas and the feeds. It gets
	// the addresses of the feeds and returns the addresses for the replicas.
	Feeds func(addrs []string) ([]string, error)
}

// Stack is a running rescind with everything around it. Start sets the fields.
type Stack struct {
	Options
	Issuer   *jwkstest.Issuer
	Control  []*Process // each replaced by StartControl
	Replicas []*Process // each replaced by StartReplica
	Gateway  *Process

	GatewayURL  string            // Envoy's first listener
	Listeners   map[string]string // addresses of Envoy's listeners, by their names
	AdminURL    string            // Envoy's own admin interface
	ControlURLs []string          // admin API of each control node
	IntakeURLs  []string          // intakes of each control node
	Token       string            // of an operator, for the admin API
	TokenFile   string            // holds Token
	GRPC        []string
	HTTP        []string // health and metrics of each replica

	starting      sync.Mutex // guards Control while StartControl replaces one beside Running
	feeds, routes []string   // of each control node: for replicas, and for the other nodes
	followed      []string   // the addresses of the feeds that the replicas use
	feedToken     string
	clusterSecret string
	upstream      *upstream
	client        *http.Client
}

// Start starts every part and returns when all are ready. After an error no part
// runs.
func Start(ctx context.Context, o Options) (_ *Stack, err error) {
	if o.Replicas == 0 {
		o.Replicas = 2
	}
	if o.ControlNodes == 0 {
		o.ControlNodes = 1
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	s := &Stack{
		Options: o, Token: "operator-" + rand.Text(), TokenFile: filepath.Join(o.Dir, "operator.token"),
		feedToken: "replica-" + rand.Text(), clusterSecret: "cluster-" + rand.Text(),
	}
	s.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.writeSecrets(); err != nil {
		return nil, err
	}
	if s.Issuer, err = jwkstest.Start(jwkstest.Options{}); err != nil {
		return nil, err
	}
	if s.upstream, err = startUpstream(); err != nil {
		return nil, err
	}
	if err := s.startControls(ctx); err != nil {
		return nil, err
	}
	if err := s.startReplicas(ctx); err != nil {
		return nil, err
	}
	return s, s.StartGateway(ctx)
}

func (s *Stack) startControls(ctx context.Context) (err error) {
	if err := s.layOut(); err != nil {
		return err
	}
	s.followed = s.feeds
	if s.Feeds != nil {
		if s.followed, err = s.Feeds(s.feeds); err != nil {
			return err
		}
	}
	for i := range s.Control {
		if err := s.StartControl(ctx, i); err != nil {
			return err
		}
	}
	for i := range s.Control {
		if err := s.WaitControl(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) startReplicas(ctx context.Context) (err error) {
	n := s.Options.Replicas
	s.Replicas, s.GRPC, s.HTTP = make([]*Process, n), make([]string, n), make([]string, n)
	for i := range n {
		if len(s.ReplicaAddrs) > 0 {
			s.GRPC[i] = s.ReplicaAddrs[i]
		} else if s.GRPC[i], err = freeport.Addr(); err != nil {
			return err
		}
		if s.HTTP[i], err = freeport.Addr(); err != nil {
			return err
		}
		if err := s.StartReplica(ctx, i); err != nil {
			return err
		}
	}
	for i := range n {
		if err := s.WaitReady(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// ReplicaName returns the name of replica i.
func ReplicaName(i int) string { return "replica-" + string(rune('a'+i)) }

// StartReplica starts replica i with its addresses and its data, and returns when
// it listens.
func (s *Stack) StartReplica(ctx context.Context, i int) error {
	name := ReplicaName(i)
	text := fmt.Sprintf(`grpc: {listen: %q%s}
http: {listen: %q}
issuers:
  - issuer: %q
    discovery: true
    audiences: [api]
    refresh_interval: 5m
    min_refresh_interval: 1s
%srevocation:
  control: [%s]
  token_file: %q
  name: %s
  dir: %q
%spolicies:
  default: {}
  reports: {scopes: ["reports:read"]}
  public: {token: optional}
%s%s`, s.GRPC[i], s.ReplicaGRPC, s.HTTP[i], s.Issuer.URL(), s.Options.Issuer, quoted(s.followed), filepath.Join(s.Dir, "replica.token"), name, filepath.Join(s.Dir, name), s.Revocation, s.knownTokens(i), s.Authz)
	p, err := s.launch(cmp.Or(s.ReplicaBinary, s.Binary), name, "authz", text)
	if err != nil {
		return err
	}
	s.Replicas[i] = p
	_, err = p.Addr(ctx, "grpc")
	return err
}

// knownTokens returns the section of replica i.
func (s *Stack) knownTokens(i int) string {
	if s.Module == "" || i > 0 {
		return ""
	}
	return fmt.Sprintf("known_tokens: {socket: %q%s}\n", s.knownSocket(), s.Known)
}

func (s *Stack) knownSocket() string { return filepath.Join(s.Dir, "known.sock") }

func (s *Stack) launch(binary, name, command, config string) (*Process, error) {
	path := filepath.Join(s.Dir, name+".yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return start(name, filepath.Join(s.Dir, name+".log"), binary, command, "--config", path)
}

// StartGateway starts the Envoy, and returns when it is ready. The configuration is
// made anew.
func (s *Stack) StartGateway(ctx context.Context) error {
	bootstrap := s.Bootstrap
	if bootstrap == nil {
		bootstrap = (*Stack).Shipped
	}
	text, err := bootstrap(s)
	if err != nil {
		return err
	}
	config, adminFile := filepath.Join(s.Dir, "envoy.yaml"), filepath.Join(s.Dir, "envoy.admin")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return err
	}
	s.Gateway, err = start("envoy", filepath.Join(s.Dir, "envoy.log"), "env", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH="+s.Module, s.Envoy, "-c", config, "--disable-hot-restart",
		"--admin-address-path", adminFile, "--concurrency", strconv.Itoa(s.Workers), "--log-level", "warning", "--drain-time-s", "1", "--file-flush-interval-msec", "200")
	if err != nil {
		return err
	}
	return s.poll(ctx, s.Gateway, func() error {
		admin, err := os.ReadFile(adminFile)
		if err != nil {
			return err
		}
		s.AdminURL = "http://" + string(admin)
		if err := s.getJSON(ctx, s.AdminURL+"/ready", nil); err != nil {
			return err
		}
		return s.findListeners(ctx)
	})
}

// Shipped returns the product's envoy.yaml with the addresses of this stack, or its
// envoy-inprocess.yaml if there is a module.
func (s *Stack) Shipped() ([]byte, error) {
	a := addresses{
		gateway:  fmt.Sprintf("127.0.0.1:%d", s.GatewayPort),
		admin:    "127.0.0.1:0",
		upstream: s.upstream.addr,
		replicas: s.GRPC,
	}
	if s.Module != "" {
		a.known, a.replicas = s.knownSocket(), s.GRPC[:1]
	}
	return bootstrap(a)
}

// UpstreamAddr returns the address of the service behind the gateway.
func (s *Stack) UpstreamAddr() string { return s.upstream.addr }

// findListeners asks Envoy for the addresses of its listeners.
func (s *Stack) findListeners(ctx context.Context) error {
	var bound struct {
		Listeners []struct {
			Name         string `json:"name"`
			LocalAddress struct {
				SocketAddress struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := s.getJSON(ctx, s.AdminURL+"/listeners?format=json", &bound); err != nil {
		return err
	}
	if len(bound.Listeners) == 0 {
		return errors.New("Envoy has no listener yet") //nolint:staticcheck // a name
	}
	s.Listeners = map[string]string{}
	for _, l := range bound.Listeners {
		a := l.LocalAddress.SocketAddress
		s.Listeners[l.Name] = net.JoinHostPort(a.Address, strconv.Itoa(a.Port))
	}
	s.GatewayURL = "http://" + s.Listeners[bound.Listeners[0].Name]
	return nil
}

// WaitReady waits until /readyz of replica i answers 200.
func (s *Stack) WaitReady(ctx context.Context, i int) error {
	return s.poll(ctx, s.Replicas[i], func() error {
		return s.getJSON(ctx, "http://"+s.HTTP[i]+"/readyz", nil)
	})
}

// poll calls ask until it returns nil. It fails if the process or ctx ends before.
func (s *Stack) poll(ctx context.Context, p *Process, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.ended()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): %w; see %s", p.Name, ctx.Err(), err, p.log.Name())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *Stack) getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// Close stops every part, the gateway first and the control nodes last, and waits
// until they have ended.
func (s *Stack) Close() {
	for _, parts := range [][]*Process{{s.Gateway}, s.Replicas, s.Control} {
		var stopping sync.WaitGroup
		for _, p := range parts {
			if p != nil {
				stopping.Go(func() { p.Stop() })
			}
		}
		stopping.Wait()
	}
	if s.upstream != nil {
		s.upstream.close()
	}
	if s.Issuer != nil {
		s.Issuer.Close()
	}
	s.client.CloseIdleConnections()
}

// Digest returns the form of a secret in the configuration.
func Digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
