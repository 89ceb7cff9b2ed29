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
	"os"
	"path/filepath"
	"time"

	"rescind/envoy/envoytest"
)

// Options of a demo.
type Options struct {
	Once     bool   // end after the story
	Port     int    // of the gateway
	Replicas int    // at least 1
	Envoy    string // path of the binary; empty: look for one
	Dir      string // empty: a temporary folder, removed at the end
	Out      io.Writer
}

// ErrStory says that an answer differed from the story.
var ErrStory = errors.New("answers differ from the story")

// startTime bounds the start of all parts.
const startTime = time.Minute

// Run plays the story. Then it stays up until ctx ends, unless o.Once is set.
func Run(ctx context.Context, o Options) (err error) {
	t := newTeller(o.Out)
	if o.Replicas < 1 {
		return fmt.Errorf("--replicas must be 1 or more; it is %d", o.Replicas)
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	gateway, err := envoytest.Find(ctx, o.Envoy, func(note string) { t.say("%s", note) })
	if err != nil {
		return err
	}
	dir, cleanup, err := folder(o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup(err == nil || errors.Is(err, context.Canceled))) }()

	begun := time.Now()
	startCtx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	stack, err := envoytest.Start(startCtx, envoytest.Options{
		Binary: binary, Envoy: gateway, Dir: dir, Replicas: o.Replicas, ControlNodes: 3, GatewayPort: o.Port,
	})
	if err != nil {
		return fmt.Errorf("starting the demo: %w", err)
	}
	defer stack.Close()
	introduce(t, stack, time.Since(begun))

	story := &story{t: t, s: stack}
	if err := story.play(ctx); err != nil {
		return err
	}
	if t.wrong > 0 {
		return fmt.Errorf("%w: %d of them, marked ✗ above", ErrStory, t.wrong)
	}
	if o.Once {
		return nil
	}
	if err := invite(ctx, t, stack, binary); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(o.Out)
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
	t.heading("rescind: revoked anywhere, denied everywhere")
	row := func(part, address string) { fmt.Fprintf(t.w, "   %-10s %s\n", part, address) }
	row("issuer", s.Issuer.URL())
	for i, url := range s.ControlURLs {
		row(envoytest.NodeName(i), url)
	}
	for i := range s.Replicas {
		row(envoytest.ReplicaName(i), s.GRPC[i])
	}
	row("envoy", s.GatewayURL)
	t.say("all up in %s", short(took))
}

// invite prints commands to try while everything is up.
func invite(ctx context.Context, t *teller, s *envoytest.Stack, binary string) error {
	token, err := s.Login(ctx, "bob")
	if err != nil {
		return err
	}
	t.heading("\nEverything is up; Ctrl-C ends it. Try it from another terminal:")
	fmt.Fprintf(t.w, `
  export RESCIND_CONTROL=%s RESCIND_TOKEN=%s ISSUER=%s
  rescind() { %s "$@"; }
  TOKEN=%s

  curl -i -H "Authorization: Bearer $TOKEN" %s/     # bob is allowed
  rescind revoke --issuer $ISSUER --sub bob --reason "trying it out" --wait
  curl -i -H "Authorization: Bearer $TOKEN" %s/     # bob is denied
  rescind check --authz %s $TOKEN                  # the decision of a replica, with its reason
  rescind list
  rescind restore ID --wait                        # with an ID of that list
  rescind alerts                                   # the revoked token was used
  rescind activity --sub bob
  rescind advise
  rescind replicas
  curl %s/metrics

`, s.ControlURLs[0], s.Token, s.Issuer.URL(), binary, token, s.GatewayURL, s.GatewayURL, s.GRPC[0], "http://"+s.HTTP[0])
	return nil
}
