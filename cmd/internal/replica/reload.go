package replica

import (
	"context"
	"reflect"
	"time"

	"rescind/cmd/internal/config"
	"rescind/envoy/known"
)

// keysPatience is the time for which a reload waits for the keys of a new
// issuer: a little longer than one fetch may take.
const keysPatience = 6 * time.Second

// reload puts the configuration that the file holds now in force. It refuses a
// faulty one whole and logs why. A configuration from standard input has no file
// to reread, so it stays in force until the replica ends.
func (p *process) reload(ctx context.Context) {
	if p.options.Path == config.Stdin {
		p.log.Info("the configuration came from standard input, so there is no file to reread; a restart changes it")
		return
	}
	c, err := config.ReadAuthz(p.options.Path)
	if err != nil {
		p.refuse(err)
		return
	}
	if reflect.DeepEqual(c, p.running) {
		p.noteReload(c)
		return
	}
	of := p.newAdmission()
	authorizer, keys, err := p.build(&c.Reloadable, of)
	if err != nil {
		p.refuse(err)
		return
	}
	var table *known.Table
	if of != nil {
		if table, err = p.known.newTable(authorizer); err != nil {
			closeUnused(keys, p.keys)
			p.refuse(err)
			return
		}
	}
	p.await(ctx, keys)
	if of != nil { // first, so that no token counts that the new configuration may refuse
		p.known.replace(table, of)
	}
	p.gate.Replace(authorizer)
	p.adopt(c, keys)
	p.changedAt.Store(time.Now().UnixNano())
	p.profile.Set(accepted(&c.Reloadable))
	p.follower.SetLimits(c.Staleness.Max, lifetimes(&c.Reloadable))
	p.level.Set(c.LogLevel)
	p.observers.change(&c.Reloadable)
	p.watcher.Configure(watchSettings(&c.Reloadable))
	p.log.Info("a new configuration is in force")
	p.logWarnings(c)
	if note := p.noteReload(c); note != "" {
		p.log.Warn(note)
	}
}

// logWarnings logs the likely mistakes in a configuration that is in force.
func (p *process) logWarnings(c *config.Authz) {
	for _, w := range c.Warnings() {
		p.log.Warn("likely mistake in the configuration", "warning", w.String())
	}
}

// refuse keeps the configuration in force, logs why, and notes that for
// readiness and for the metrics.
func (p *process) refuse(err error) {
	note := "the changed configuration is refused, and the one in force stays; the log says why"
	p.reloadNote.Store(&note)
	p.reloadRefused.Store(true)
	p.log.Error("the new configuration is refused; the one in force stays", "error", err.Error())
}

// noteReload notes that the reload was accepted. It notes for readiness that the
// file asks for a restart, and returns that note. Without such settings in c it removes the note of an earlier reload.
func (p *process) noteReload(c *config.Authz) (note string) {
	if !reflect.DeepEqual(p.options.Config.AtStart, c.AtStart) {
		note = "some changed settings take effect at the next start of this replica: grpc, http, log.format, the rest of log.decisions and tracing beside their shares, known_tokens, and revocation beside max_staleness and on_stale"
	}
	p.reloadNote.Store(&note)
	p.reloadRefused.Store(false)
	return note
}

// await waits until the new keys are fetched, and the new status lists that are
// known by their URIs, at most for keysPatience. The configuration in force answers
// meanwhile, from its own keys.
func (p *process) await(ctx context.Context, next map[string]issuerKeys) {
	ctx, cancel := context.WithTimeout(ctx, keysPatience)
	defer cancel()
	for name, k := range next {
		arrived := func() bool {
			return (p.keys[name].keys == k.keys || k.keys.Status().Usable()) &&
				(k.status == nil || p.keys[name].status == k.status || k.status.lists.Settled())
		}
		for !arrived() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// adopt takes over c, its keys and its status lists, and closes those that c does
// not use. The
// caller has already replaced an authorizer that still looks in them.
func (p *process) adopt(c *config.Authz, next map[string]issuerKeys) {
	old := p.keys
	p.running, p.keys = c, next
	p.ready.store(next)
	closeUnused(old, next)
}

// closeUnused closes the keys and the status lists that are not among those in
// use. Fetches of lists need the keys, so the lists end first.
func closeUnused(keys, used map[string]issuerKeys) {
	for name, k := range keys {
		k.status.close(used[name].status)
		if used[name].keys != k.keys {
			k.keys.Close()
		}
	}
}

// close closes all keys and status lists.
func (p *process) close() error {
	p.adopt(p.running, map[string]issuerKeys{})
	return nil
}
