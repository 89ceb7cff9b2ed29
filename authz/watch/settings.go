package watch

import (
	"time"
)

// Settings are what is unusual, and how much is remembered. A detector whose
// threshold is zero is off; those for what is revoked have none.
type Settings struct {
	Enabled bool

	Window time.Duration // for how long what is not seen again is remembered
	Tokens int           // at most so many

	// NetworksPerToken is from how many networks (/24, /48) a token may come
	// within the window.
	NetworksPerToken int
	// AtOnce is how soon a token may come from one network, then from another
	// of the same family, and from the first again, twice in a row.
	AtOnce time.Duration

	// Failures are how many bad signatures, unknown keys and wrong algorithms,
	// each on its own, may come from one network for one issuer in
	// FailuresWithin; ten times as many from all networks together.
	Failures       int
	FailuresWithin time.Duration

	// SubjectRate is how many times its usual requests a minute a subject may
	// make, and SubjectAtLeast how many it may make in any case.
	SubjectRate    int
	SubjectAtLeast int

	// LifetimeFactor is how many times longer than the 99th percentile of its
	// issuer's others a token may live, and LifetimeAtLeast what it may in any
	// case.
	LifetimeFactor  int
	LifetimeAtLeast time.Duration

	// CutOff is how long a replica that is cut off from the control endpoint
	// goes on; 0: for ever. It is for the advice alone.
	CutOff time.Duration
}

// Defaults are settings that do for most.
func Defaults() Settings {
	return Settings{
		Enabled: true, Window: time.Hour, Tokens: 1_000_000,
		NetworksPerToken: 5, AtOnce: 10 * time.Second,
		Failures: 100, FailuresWithin: time.Minute,
		SubjectRate: 10, SubjectAtLeast: 300,
		LifetimeFactor: 4, LifetimeAtLeast: time.Hour,
	}
}

// Bounds of what can be set. Stamps, which are of 32 bits, and the links of
// the table rely on them.
const (
	MinWindow = time.Minute
	MaxWindow = 24 * time.Hour
	MinTokens = 1000
	MaxTokens = 8_000_000
)

func (s Settings) bounded() Settings {
	s.Window = min(max(s.Window, MinWindow), MaxWindow)
	s.Tokens = min(max(s.Tokens, MinTokens), MaxTokens)
	return s
}
