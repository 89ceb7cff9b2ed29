// Package demo shows the product working on one machine: `rescind demo`.
//
// It uses the same means as a user: child processes of this binary with
// configuration files, a real Envoy with the envoy.yaml that we ship, the admin
// API and the ext_authz call. The story is a list of requests with the answers
// that they must get. A different answer is marked, and the demo then ends with
// an error.
//
// The demo starts an issuer that mints tokens, so a release build leaves this
// package out.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"rescind/cmd/internal/terminal"
	"rescind/envoy/envoytest"
)

// Options of a demo.
type Options struct {
	Once      bool   // end after the story
	InProcess bool   // Envoy answers by itself for tokens that the first replica knows
	Port      int    // of the gateway
	Replicas  int    // at least 1
	Envoy     string // path of the binary; empty: look for one
	Dir       string // empty: a temporary folder, removed at the end
	Out       io.Writer
}

// ErrStory says that an answer differed from the story.
var ErrStory = errors.New("answers differ from the story")

const (
	// startTime bounds the start of all parts.
	startTime    = time.Minute
	controlNodes = 3
)

// Run plays the story. Then it stays up until ctx ends or the reader of o.Out goes
// away, unless o.Once is set.
func Run(ctx context.Context, o Options) (err error) {
	if o.Replicas < 1 {
		return fmt.Errorf("--replicas must be 1 or more; it is %d", o.Replicas)
	}
	if err := free(o.Port); err != nil {
		return err
	}
	ctx, out, unwatch := watch(ctx, o.Out)
	defer unwatch()
	t := newTeller(out, terminal.Columns(o.Out))
	err = play(ctx, t, o)
	if errors.Is(context.Cause(ctx), ErrUnread) {
		return ErrUnread
	}
	return err
}

// free returns an error that names the flag if the port of the gateway is taken.
func free(port int) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // it returns at once
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d is taken; --port N takes port N for the gateway, and --port 0 any free one", port)
	case err != nil:
		return fmt.Errorf("--port %d: %w", port, err)
	}
	return l.Close()
}

// play starts all parts, plays the story, and closes the parts when ctx ends.
func play(ctx context.Context, t *teller, o Options) (err error) {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	var gateway string
	err = t.wait(func() (err error) {
		gateway, err = envoytest.Find(ctx, o.Envoy, func(note string) { t.say("%s", note) })
		return err
	})
	if err != nil {
		return err
	}
	dir, cleanup, err := folder(o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup(err == nil || ctx.Err() != nil)) }()

	t.heading("rescind: revoked anywhere, denied everywhere")
	startCtx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	var module string
	if o.InProcess {
		t.say("building the module for Envoy")
		if module, err = buildModule(startCtx, dir); err != nil {
			return err
		}
	}
	t.say("starting an issuer, %d control nodes, %d replicas and an Envoy", controlNodes, o.Replicas)
	begun := time.Now()
	var stack *envoytest.Stack
	err = t.wait(func() (err error) {
		stack, err = envoytest.Start(startCtx, envoytest.Options{
			Binary: binary, Envoy: gateway, Dir: dir, Replicas: o.Replicas, ControlNodes: controlNodes, GatewayPort: o.Port, Intakes: intakes, Module: module,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("starting the demo: %w", err)
	}
	defer stack.Close()
	introduce(t, stack, time.Since(begun))

	story := &story{t: t, s: stack, begun: time.Now()}
	if err := story.play(ctx); err != nil {
		return err
	}
	if t.wrong > 0 {
		return fmt.Errorf("%w: %d of them, marked ✗ above", ErrStory, t.wrong)
	}
	if !o.Once {
		if err := invite(t, stack, binary); err != nil {
			return err
		}
	}
	story.conclude()
	if !o.Once {
		<-ctx.Done()
		t.write("\n")
	}
	return nil
}

// folder returns the folder of the demo and the function that leaves it. A
// temporary folder is removed if all went well, and kept for its logs otherwise.
func folder(dir string) (_ string, cleanup func(well bool) error, err error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, err
		}
		dir, err = filepath.Abs(dir)
		return dir, func(bool) error { return nil }, err
	}
	dir, err = os.MkdirTemp("", "rescind-demo-")
	if err != nil {
		return "", nil, err
	}
	return dir, func(well bool) error {
		if !well {
			return fmt.Errorf("the logs of all parts are in %s", dir)
		}
		return os.RemoveAll(dir)
	}, nil
}

func introduce(t *teller, s *envoytest.Stack, took time.Duration) {
	row := func(part, address string) { t.write(fmt.Sprintf("   %-10s %s\n", part, address)) }
	row("issuer", s.Issuer.URL())
	for i, url := range s.ControlURLs {
		row(envoytest.NodeName(i), url)
	}
	for i := range s.Replicas {
		row(envoytest.ReplicaName(i), s.GRPC[i])
	}
	row("envoy", s.GatewayURL)
	if s.Module != "" {
		t.say("Envoy has the module, and %s is the replica beside it", envoytest.ReplicaName(0))
	}
	t.say("all up in %s", short(took))
}

// tokenFile holds the token of the printed commands, in the folder of the demo.
const tokenFile = "bob.token"

// tokenLife is the lifetime of that token.
const tokenLife = time.Hour

// invite prints commands to try while everything is up. Their tokens stand in
// files, so that no list of processes shows them.
func invite(t *teller, s *envoytest.Stack, binary string) error {
	token, err := s.Mint(map[string]any{"sub": "bob", "exp": time.Now().Add(tokenLife).Unix()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.Dir, tokenFile), []byte(token+"\n"), 0o600); err != nil {
		return err
	}
	t.write("\n")
	t.heading("Everything is up; Ctrl-C ends it. Try it from another terminal:")
	t.write(fmt.Sprintf(`
  cd %s
  rescind() { %s "$@"; }
  export RESCIND_CONTROL=%s ISSUER=%s
  export RESCIND_TOKEN=$(cat %s) TOKEN=$(cat %s)
  # bob, whose token lives an hour, is allowed, revoked, and denied:
  curl -i -H "Authorization: Bearer $TOKEN" %s/
  rescind revoke --issuer $ISSUER --sub bob --reason "a try" --wait
  curl -i -H "Authorization: Bearer $TOKEN" %s/
  # the decision of a replica and its reason; ID is one of the list:
  rescind check --authz %s - <%s
  rescind list
  rescind restore ID --wait
  # the traffic that the replicas saw:
  rescind alerts
  rescind activity --sub bob
  rescind advise
  rescind replicas
  curl http://%s/metrics

`, s.Dir, binary, s.ControlURLs[0], s.Issuer.URL(), filepath.Base(s.TokenFile), tokenFile, s.GatewayURL, s.GatewayURL, s.GRPC[0], tokenFile, s.HTTP[0]))
	return nil
}
