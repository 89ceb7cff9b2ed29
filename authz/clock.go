package authz

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// ClockAhead is the detail of a denial for an iat that is further ahead than
// iat_leeway. The signature has been verified, so the issuer's clock is ahead.
const ClockAhead = "iat is ahead of this replica's clock by more than iat_leeway"

// ahead returns how far iat lies in the future. It is 0 or less for an iat that
// is reached, and 0 without iat.
func (t *verified) ahead(now time.Time) time.Duration {
	if !t.IssuedAt.Set {
		return 0
	}
	return t.issuedAt().Time().Sub(now)
}

// clockWarning limits a warning to one a minute. A request never waits for it.
type clockWarning struct {
	last atomic.Int64 // when it was last due, in Unix nanoseconds; 0: never
}

// due reports whether the caller may log the warning now. It is true for one
// caller a minute.
func (w *clockWarning) due(now time.Time) bool {
	last := w.last.Load()
	if last != 0 && now.Sub(time.Unix(0, last)) < time.Minute {
		return false
	}
	return w.last.CompareAndSwap(last, now.UnixNano())
}

// warnAhead logs that the clock of i is ahead by this much, at most once a
// minute. A signature of the issuer has been verified, so only the issuer can
// cause the warning.
func (a *Authorizer) warnAhead(i *issuer, ahead time.Duration, now time.Time) {
	if !i.ahead.due(now) {
		return
	}
	a.log.Warn("the issuer's clock is ahead, its new tokens are refused until their iat is reached",
		slog.String("issuer", i.Name),
		slog.String("ahead", ahead.Round(time.Microsecond).String()),
		slog.String("iat_leeway", i.IatLeeway.String()),
		slog.String("remedy", "correct the issuer's clock or this replica's, or raise iat_leeway of this issuer to at most its leeway"))
}
