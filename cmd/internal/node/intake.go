package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/jwks"
	"rescind/revocation/intake"
	"rescind/revocation/store"
)

// intakePart is the part of a kind of intake that talks with its sender. A kind
// that is pushed to may also pull, to see that its sender is well.
type intakePart struct {
	push http.Handler                // serves the paths behind /intake/NAME
	pull func(context.Context) error // runs on one of the nodes, and again if it returns an error
}

// intakeKinds make the part of an intake. There is a function for each kind of
// the configuration.
var intakeKinds = map[string]func(*node, *config.Intake, *intake.Door) (intakePart, error){
	"global_token_revocation": globalTokenRevocationPart,
	"logout":                  logoutPart,
	"revocation_endpoint":     revocationEndpointPart,
	"keycloak":                keycloakPart,
	"ssf_poll":                ssfPoll,
	"ssf_push":                ssfPush,
	"webhook":                 webhookPart,
}

// buildIntakes makes the intakes. The handlers of those that are pushed to are in
// n.pushed, and pollers begin to run.
func (n *node) buildIntakes() (*intake.Doors, error) {
	figures := intake.NewFigures()
	n.pushed = map[string]http.Handler{}
	var doors []*intake.Door
	for i := range n.config.Intakes {
		c := &n.config.Intakes[i]
		door := intake.New(intake.Options{
			Name: c.Name, Kind: c.Kind, Issuers: c.Issuers, May: c.May, DryRun: c.DryRun, Map: c.Map,
			Authority: n.authority, Shelf: shelf{n.store}, Figures: figures, Logger: n.log,
		})
		part, err := intakeKinds[c.Kind](n, c, door)
		if err != nil {
			return nil, fmt.Errorf("intake %s: %w", c.Name, err)
		}
		door.Pulls = part.pull != nil
		doors = append(doors, door)
		if part.push != nil {
			n.pushed[c.Name] = part.push
		}
		if part.pull != nil {
			n.pull(door, part.pull)
		}
	}
	n.registry.MustRegister(figures)
	all := intake.NewDoors(n.store.Writer(), shelf{n.store}, doors...)
	if len(doors) > 0 {
		n.background("figures of the intakes", func(ctx context.Context) { all.Run(ctx) })
	}
	return all, nil
}

// background runs work until the teardown.
func (n *node) background(name string, work func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background()) // the teardown ends it, in its turn
	ended := n.processes.Run(name, func() error { work(ctx); return nil })
	n.teardown.Add(name, daemon.StopAndWait(stop, ended))
}

// pull runs a poller while this node has its lease. A node that is alone needs
// none.
func (n *node) pull(door *intake.Door, run func(context.Context) error) {
	lease := intake.NewLease(door.Shelf, door.Name, door.Logger)
	n.background("intake "+door.Name, func(ctx context.Context) {
		if n.alone() {
			intake.RunAlone(ctx, door.Logger, run)
			return
		}
		lease.Run(ctx, run)
	})
}

// serveIntakes begins to serve the intakes that are pushed to on l.
func (n *node) serveIntakes(l net.Listener, secure *tls.Config) {
	server := daemon.NewServer(intake.NewPush(n.pushed, n.log), secure, n.log)
	served := n.processes.Run("intake", func() error { return server.Serve(l) })
	n.teardown.Add("intake", func(ctx context.Context) error { err := server.Shutdown(ctx); <-served; return err })
	daemon.LogListening(n.log, "intake", l)
}

// signer returns a signer that follows the keys of its issuer until the process
// ends.
func (n *node) signer(c *config.Signer) (*intake.Signer, error) {
	o := c.Options(c.Issuer)
	o.Logger = n.log
	keys, err := jwks.Open(o)
	if err != nil {
		return nil, fmt.Errorf("the keys of %s: %w", c.Issuer, err)
	}
	n.teardown.Add("keys of "+c.Issuer, daemon.Closing(func() error { keys.Close(); return nil }))
	return &intake.Signer{Issuer: c.Issuer, Algorithms: c.Algorithms, Keys: keys}, nil
}

// shelf keeps the documents of the intakes beside the log.
type shelf struct{ log *store.Log }

func (s shelf) Load(ctx context.Context, name string) (document []byte, version uint64, err error) {
	return s.log.LoadShared(ctx, name)
}

func (s shelf) Save(ctx context.Context, name string, document []byte, version uint64) (uint64, error) {
	version, err := s.log.SaveShared(ctx, name, document, version)
	if errors.Is(err, store.ErrChanged) {
		err = intake.ErrChanged
	}
	return version, err
}
