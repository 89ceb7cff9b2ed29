package watch

import (
	"time"
)

// Settings are the thresholds of the detectors and the size of the memory. A
// detector whose threshold is 0 is off. The detectors of revoked tokens have no
// threshold.
type Settings struct {
	Enabled bool

	Window time.Duration // for how long a token is remembered after its last use
	Tokens int           // that are remembered at most

	// NetworksPerToken is the number of networks (/24, /48) that a token may
	// come from within the window.
	NetworksPerToken int
	// AtOnce is the time within which a token may not come from one network,
	// from another of the same family, and from the first again, twice in a row.
	AtOnce time.Duration

	// Failures is the number of bad signatures that raises an alert if they come
	// from one network for one issuer within FailuresWithin. Unknown keys and
	// wrong algorithms have the same limit, each on its own. All networks
	// together have ten times the limit.
	Failures       int
	FailuresWithin time.Duration

	// SubjectRate is the factor by which a subject may exceed its usual requests
	// a minute. Up to SubjectAtLeast requests a minute raise no alert.
	SubjectRate    int
	SubjectAtLeast int

	// LifetimeFactor is the factor by which a token's lifetime may exceed the
	// 99th percentile of its issuer's tokens. A lifetime up to LifetimeAtLeast
	// raises no alert.
	LifetimeFactor  int
	LifetimeAtLeast time.Duration

	// CutOff is for how long a replica that is cut off from the control endpoint
	// goes on to allow requests; 0: for ever. The advice alone uses it.
	CutOff time.Duration
}

// Defaults returns the settings of a replica that configures none.
func Defaults() Settings {
	return Settings{
		Enabled: true, Window: time.Hour, Tokens: 1_000_000,
		NetworksPerToken: 5, AtOnce: 10 * time.Second,
		Failures: 100, FailuresWithin: time.Minute,
		SubjectRate: 10, SubjectAtLeast: 300,
		LifetimeFactor: 4, LifetimeAtLeast: time.Hour,
	}
}

// Bounds of the settings. The stamps of 32 bits and the links of the table rely
// on them.
const (
	MinWindow = time.Minute
	MaxWindow = 24 * time.Hour
	MinTokens = 1000
	MaxTokens = 8_000_000
)

// bounded returns s within its bounds.
func (s Settings) bounded() Settings {
	s.Window = min(max(s.Window, MinWindow), MaxWindow)
	s.Tokens = min(max(s.Tokens, MinTokens), MaxTokens)
	return s
}
