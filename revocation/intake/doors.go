package intake

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"rescind/revocation/ledger"
)

// Doors are the intakes of one node. Their reports are of all nodes, because each
// node puts its own on the shelf.
type Doors struct {
	node   string
	shelf  Shelf
	all    []*Door
	shared map[string]Status // this node's, as they are on the shelf
}

// NewDoors returns the intakes of the node with this name. The names of the nodes
// that share the shelf differ.
func NewDoors(node string, shelf Shelf, all ...*Door) *Doors {
	return &Doors{node: node, shelf: shelf, all: all, shared: map[string]Status{}}
}

// Report is how an intake stands on all nodes together.
type Report struct {
	*Door
	Status
	State string
	Held  int
}

// States of an intake in a report.
const (
	StateOK      = "ok"
	StateFailing = "failing" // the last poll or event failed
	StateWaiting = "waiting" // nothing has come since the start
)

// shareTime is the pause between two looks at the figures of this node and at the
// held events.
const shareTime = 5 * time.Second

// forgetTime is how long the figures of a silent node count.
const forgetTime = 7 * 24 * time.Hour

// Run keeps the figures of this node on the shelf, and the numbers of held events
// up to date, until ctx ends.
func (d *Doors) Run(ctx context.Context) {
	for {
		for _, door := range d.all {
			if err := d.share(ctx, door); err != nil && ctx.Err() == nil {
				door.Logger.Debug("figures not shared with the other nodes", "error", err)
			}
		}
		sleep(ctx, shareTime)
		if ctx.Err() != nil {
			return
		}
	}
}

// share puts the status of a door on the shelf if it has changed, and counts the
// held events.
func (d *Doors) share(ctx context.Context, door *Door) error {
	if held, _, err := door.hold.load(ctx); err == nil {
		door.heldNow(len(held))
	}
	status := door.Status()
	if d.shared[door.Name].equal(&status) {
		return nil
	}
	err := change(ctx, d.shelf, statusName(door), func(ctx context.Context) (map[string]Status, uint64, error) { return d.onShelf(ctx, door) },
		func(all map[string]Status) (map[string]Status, bool, error) {
			all[d.node] = status
			maps.DeleteFunc(all, func(node string, s Status) bool { // a node that is gone for good
				return node != d.node && door.Authority.Now().Sub(s.Active) > forgetTime
			})
			return all, true, nil
		})
	if err == nil {
		d.shared[door.Name] = status
	}
	return err
}

func statusName(door *Door) string { return "status/" + door.Name }

// onShelf returns the status of a door on each node that has shared one.
func (d *Doors) onShelf(ctx context.Context, door *Door) (all map[string]Status, version uint64, err error) {
	document, version, err := d.shelf.Load(ctx, statusName(door))
	all = map[string]Status{}
	if err == nil && len(document) > 0 {
		err = json.Unmarshal(document, &all)
	}
	return all, version, err
}

// Reports returns how the intakes stand that the caller may see: those that are
// about issuers of the caller alone.
func (d *Doors) Reports(ctx context.Context, c *ledger.Caller) ([]Report, error) {
	var out []Report
	for _, door := range d.all {
		if !coversAll(c, door.Issuers) {
			continue
		}
		all, _, err := d.onShelf(ctx, door)
		if err != nil {
			return nil, err
		}
		all[d.node] = door.Status()
		held, _, err := door.hold.load(ctx)
		if err != nil {
			return nil, err
		}
		r := Report{Door: door, Status: merged(all), Held: len(held)}
		r.State = r.state()
		out = append(out, r)
	}
	return out, nil
}

// merged returns the status of all nodes together. The node that was active last
// says how the intake stands, because the others may only wait for their turn.
func merged(nodes map[string]Status) (sum Status) {
	sum.Counts = map[string]uint64{}
	var last time.Time
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		s := nodes[name]
		for outcome, n := range s.Counts {
			sum.Counts[outcome] += n
		}
		if s.LastEvent.After(sum.LastEvent) {
			sum.LastEvent, sum.LastEventType = s.LastEvent, s.LastEventType
		}
		if s.LastSuccess.After(sum.LastSuccess) {
			sum.LastSuccess = s.LastSuccess
		}
		if s.Active.After(last) {
			last = s.Active
			sum.Active, sum.Lag, sum.Error, sum.ErrorAt = s.Active, s.Lag, s.Error, s.ErrorAt
		}
	}
	return sum
}

func (s *Status) state() string {
	switch {
	case s.Error != "":
		return StateFailing
	case s.LastSuccess.IsZero():
		return StateWaiting
	}
	return StateOK
}

// Held returns the events that wait for an operator and that the caller may see,
// those of each intake together, oldest first.
func (d *Doors) Held(ctx context.Context, c *ledger.Caller) (all []HeldEvent, err error) {
	for _, door := range d.all {
		held, err := door.Held(ctx, c)
		if err != nil {
			return nil, err
		}
		all = append(all, held...)
	}
	return all, nil
}

// Release carries out a held event, as [Door.Release] does.
func (d *Doors) Release(ctx context.Context, operator *ledger.Caller, id string) (revocations []string, err error) {
	door, err := d.holder(ctx, operator, id, ledger.ActRelease)
	if err != nil {
		return nil, err
	}
	return door.Release(ctx, operator, id)
}

// Drop forgets a held event, as [Door.Drop] does.
func (d *Doors) Drop(ctx context.Context, operator *ledger.Caller, id string) error {
	door, err := d.holder(ctx, operator, id, ledger.ActDrop)
	if err != nil {
		return err
	}
	return door.Drop(ctx, operator, id)
}

// holder returns the door that holds an event.
func (d *Doors) holder(ctx context.Context, c *ledger.Caller, id, action string) (*Door, error) {
	for _, door := range d.all {
		held, _, err := door.hold.load(ctx)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(held, func(e HeldEvent) bool { return e.ID == id }) {
			return door, nil
		}
	}
	for _, door := range d.all { // the first one writes the refusal
		_, err := door.held(ctx, c, id, action)
		return nil, err
	}
	return nil, ErrUnknownEvent
}
