// Package intake turns the events of identity providers into revocations: a
// logout, a disabled user, a deleted key. The packages below it know the wire
// format of one kind of sender each. They verify the sender, and hand each event
// to the [Door] of their entry in the configuration.
//
// # The door
//
// A door carries an event out in the name intake:NAME, through the ledger, as
// the admin API does for its callers. So the guard weighs the event, the audit
// names it, and an equal revocation in force is not made twice. The door has
// the powers and the issuers of its entry in the configuration, and no others.
// An event beyond them is refused, is in the audit, and changes nothing.
//
// # Nothing is lost
//
// [Door.Take] returns an outcome once the effect of the event is durable. It
// returns an error if it could not make the effect durable. Then the sender must
// send the event again: a push is answered with a 5xx, a poller does not
// acknowledge. An event that the guard refuses is kept, shown and alarmed as
// held, until an operator releases or drops it. It is never answered as done.
//
// # Twice is once
//
// Senders repeat events. An event reaches only the tokens issued until it
// happened, so a repetition denies no token of a later login. A block ends with
// the event that undoes it, also if that event arrives first. A repetition of the
// block does not come back after that, because the revocation carries the name of
// its event.
package intake

import (
	"time"

	"rescind/revocation"
)

// Power is a kind of effect that the configuration of an intake must list.
type Power string

// The powers.
const (
	Token   Power = "token"   // one token, by its jti or its hash
	Session Power = "session" // one session, by sid
	Subject Power = "subject" // one subject, by the claim that the mapping names
	Client  Power = "client"  // the tokens of one client
	KeyID   Power = "kid"     // the tokens of one key
	All     Power = "all"     // every token of an issuer
	Block   Power = "block"   // tokens of later logins too, until the event is undone
)

// Powers are all of them.
var Powers = []Power{Token, Session, Subject, Client, KeyID, All, Block}

// DefaultPowers are the powers of an entry that lists none.
var DefaultPowers = []Power{Token, Session, Subject}

// Event is one verified event of a sender.
type Event struct {
	ID   string    // unique at the sender, such as a jti; empty: the sender gives none
	Type string    // the name of its kind, as the sender writes it
	At   time.Time // when it happened, by the sender's word; zero: now
	Acts []Act     // all its effects; none: the event means nothing here
	Note string    // why there are no acts
	// Refuse says that an event without acts is one that the sender may not send,
	// or that names nothing here. The audit has such an event.
	Refuse bool
}

// Act is one effect of an event. Exactly one of Token, Claims, KeyID and
// All is set.
type Act struct {
	Power  Power // the power that it takes, beside Block
	Issuer string

	Token  string // raw
	Claims []revocation.Claim
	KeyID  string
	All    bool

	// Cutoff denies tokens issued up to the end of the second of this instant. The
	// door takes the time of receipt for an instant that is later. Zero denies a
	// token, a session or a key at any time, and is the time of the event for
	// other targets.
	Cutoff time.Time
	// Block also denies tokens of later logins, until an act with Undo.
	Block bool
	// Undo restores the revocations of this target that events of this intake
	// made with Block, or without a cut-off, up to the time of the event.
	Undo bool
}

// State is the outcome of an event.
type State string

// The states, from the weakest. An event with several acts has the strongest of
// theirs.
const (
	Ignored State = "ignored" // the event means nothing here
	Refused State = "refused" // the entry in the configuration does not allow it
	DryRun  State = "dry_run" // the audit says what would have been revoked
	Already State = "already" // the same was in force, or is undone since
	Revoked State = "revoked"
	Undone  State = "undone"
	Held    State = "held" // kept until an operator releases or drops it
)

// Outcome is the answer to an event, once it is durable.
type Outcome struct {
	State  State
	Detail string // for people; names the revocation, or the reason
}
