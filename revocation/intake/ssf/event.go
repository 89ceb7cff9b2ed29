package ssf

import (
	"strings"
	"time"

	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
	"rescind/revocation/printable"
)

// untilThen is behind the ID of an event that blocks, for the part of it that
// stays when the block ends.
const untilThen = "#until"

// events returns the event of a token for the door, with all its acts. Several
// events of a token describe one occurrence, so the acts of all of them are
// carried out. A block comes after another event with the same acts up to its
// time, because the end of the block must not bring the tokens of before back.
// The error is a fault: one event of the token ends a block, and another denies.
func (r *Receiver) events(set *secevent.SET) ([]intake.Event, error) {
	e := intake.Event{ID: set.ID, At: set.IssuedAt}
	var types, notes []string
	undoes, denies := false, false
	for i := range set.Events {
		said := &set.Events[i]
		types = append(types, said.Type)
		action, note := r.policy.action(said)
		if action == Log {
			r.Door.Logger.Info("event logged", "event", printable.Clean(said.Type, secevent.MaxID), "id", printable.Clean(set.ID, secevent.MaxID))
		}
		if note != "" {
			notes = append(notes, note)
			continue
		}
		acts, err := r.Subjects.acts(said.Subject)
		if err != nil {
			notes, e.Refuse = append(notes, err.Error()), true
			continue
		}
		e.At = happened(set, said)
		e.Acts = append(e.Acts, carriedOut(action, acts, e.At)...)
		undoes, denies = undoes || action == Unblock, denies || action != Unblock
	}
	if undoes && denies {
		return nil, &secevent.Fault{Code: secevent.InvalidRequest, Description: "the events of the token contradict each other"}
	}
	e.Type, e.Note = strings.Join(types, " "), strings.Join(notes, "; ")
	return split(e), nil
}

// split puts the blocks of an event behind an event without blocks.
func split(e intake.Event) []intake.Event {
	until := e
	until.ID, until.Acts = e.ID+untilThen, nil
	for _, act := range e.Acts {
		if act.Block {
			act.Block, act.Cutoff = false, e.At
			until.Acts = append(until.Acts, act)
		}
	}
	if until.Acts == nil {
		return []intake.Event{e}
	}
	return []intake.Event{until, e}
}

// happened returns the time of an event: its event_timestamp, else the toe of the
// token, else its iat.
func happened(set *secevent.SET, e *secevent.Event) time.Time {
	if at, ok := secevent.Instant(e.Members["event_timestamp"]); ok {
		return at
	}
	if !set.Occurred.IsZero() {
		return set.Occurred
	}
	return set.IssuedAt
}

// carriedOut returns the acts of an action on some tokens. A token and a session
// are over for good. A subject may log in again.
func carriedOut(action Action, on []intake.Act, at time.Time) []intake.Act {
	for i := range on {
		switch act := &on[i]; {
		case action == Unblock:
			act.Undo = true
		case action == Block:
			act.Block = true
		case act.Power != intake.Token && act.Power != intake.Session:
			act.Cutoff = at
		}
	}
	return on
}
