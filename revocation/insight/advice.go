package insight

import (
	"fmt"
	"time"
)

// A short lifetime of access tokens costs refreshes. It shortens the time for
// which a token that should be invalid is still accepted. Where revocation
// works, that time is close to zero for every lifetime. A short lifetime then
// helps in two cases alone: a replica that is cut off, and a theft that nobody
// has noticed.

// Duration is a duration that JSON has as Go writes it: 1h30m0s.
type Duration time.Duration

// MarshalText returns d as Go writes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text of MarshalText.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("not a duration: %w", err)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// Short returns d for people, rounded and without needless parts: 5m, 1h30m.
func (d Duration) Short() string {
	v := time.Duration(d)
	switch {
	case v >= 10*time.Minute:
		v = v.Round(time.Minute)
	case v >= time.Second:
		v = v.Round(time.Second)
	}
	s := v.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if n := len(s) - 2; n > 0 && s[n-1:] == zero {
			s = s[:n]
		}
	}
	return s
}

// Lifetimes are the lifetimes that advice compares.
var Lifetimes = [...]time.Duration{
	time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// AdviceData is one replica's statistics of the lifetimes of tokens and of their
// use. [Advise] makes advice of it.
type AdviceData struct {
	Since   time.Time     `json:"since"`
	Until   time.Time     `json:"until"`
	CutOff  Duration      `json:"cut_off" doc:"A replica that is cut off for so long denies; 0: it goes on with its last set"`
	Groups  []AdviceGroup `json:"groups"`
	Partial bool          `json:"partial,omitempty" doc:"There were more groups than are kept"`
}

// AdviceGroup has the statistics of one issuer, client and policy. Its lists have
// an element for each of [Lifetimes].
type AdviceGroup struct {
	Issuer string `json:"issuer"`
	Client string `json:"client"`
	Policy string `json:"policy"`

	Tokens   uint64 `json:"tokens" doc:"Tokens that were first seen here"`
	Requests uint64 `json:"requests" doc:"Allowed ones"`
	Holders  []byte `json:"holders" doc:"HyperLogLog of the sessions, or else subjects"`

	// DDSketches of seconds.
	Lifetimes []byte `json:"lifetimes" doc:"Of each token, exp - iat"`
	Ages      []byte `json:"ages" doc:"At each use"`
	Gaps      []byte `json:"gaps" doc:"Between two uses by one holder"`
	Rests     []byte `json:"rests" doc:"The rest of the life, at each use"`

	LivesLonger []uint64  `json:"lives_longer" doc:"Requests with tokens that live longer than that"`
	IsOlder     []uint64  `json:"is_older" doc:"Requests with tokens that were older than that"`
	Pauses      []uint64  `json:"pauses" doc:"Gaps longer than that"`
	Busy        []float64 `json:"busy" doc:"Seconds in gaps that are not longer"`
}

// Advice has a recommendation for each issuer, client and policy.
type Advice struct {
	Since   time.Time        `json:"since"`
	Partial bool             `json:"partial,omitempty"`
	Items   []Recommendation `json:"items"`
}

// Recommendation is the advice for one issuer, client and policy.
type Recommendation struct {
	Issuer          string  `json:"issuer"`
	Client          string  `json:"client"`
	Policy          string  `json:"policy"`
	Tokens          uint64  `json:"tokens"`
	Holders         uint64  `json:"holders" doc:"Sessions, or else subjects"`
	Requests        uint64  `json:"requests"`
	RequestsPerHour float64 `json:"requests_per_hour"`

	Lifetime Quantiles `json:"lifetime" doc:"As issued"`
	Age      Quantiles `json:"age" doc:"At use"`
	Gap      Quantiles `json:"gap" doc:"Between uses by one holder"`
	Rest     Quantiles `json:"rest" doc:"Rest of the life, at use: the time that a revocation saves"`

	Candidates  []Candidate `json:"candidates"`
	Recommended Duration    `json:"recommended,omitzero" doc:"Absent: too little was seen for a recommendation"`
	Reason      string      `json:"reason"`
}

// Quantiles are three quantiles of durations.
type Quantiles struct {
	P50 Duration `json:"p50"`
	P90 Duration `json:"p90"`
	P99 Duration `json:"p99"`
}

// Candidate is a lifetime that the issuer could set.
type Candidate struct {
	Lifetime Duration `json:"lifetime"`

	// For how long a token that should be invalid is still accepted.
	ExposureMean   Duration `json:"exposure_mean" doc:"Without revocation, on average"`
	ExposureMost   Duration `json:"exposure_most" doc:"Without revocation, at most"`
	ExposureCutOff Duration `json:"exposure_cut_off" doc:"With it, at most, if a replica were cut off"`

	RefreshesPerHour float64 `json:"refreshes_per_hour" doc:"Its cost for the issuer"`

	// The share of the present requests, 0 to 1, that such a limit would deny
	// while the issuer stays as it is.
	DeniedByMaxLifetime float64 `json:"denied_by_max_lifetime"`
	DeniedByMaxAge      float64 `json:"denied_by_max_age"`
}
