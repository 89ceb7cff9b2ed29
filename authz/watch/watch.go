// Package watch notices unusual use of tokens.
package watch

import (
	"time"

	"rescind/authz"
	"rescind/revocation/insight"
)

// Watcher watches.
type Watcher struct{}

// Observe takes note of a decision. It does not block and keeps nothing of
// what it is given.
func (w *Watcher) Observe(r *authz.Request, d *authz.Decision, at time.Time) {}

// SetSink says who is handed alerts. It is called on the goroutine that
// watches, and must not block.
func (w *Watcher) SetSink(sink func(insight.Alert)) {}

// Answer answers a question as it comes over the feed: of kind "activity" with
// an [insight.ActivityQuery] and the answer an [insight.Activity], "impact"
// with an [insight.ImpactQuery] and an [insight.Impact], "advice" with nothing
// and an [insight.AdviceData]. Both are JSON.
func (w *Watcher) Answer(kind string, query []byte) ([]byte, error) { return nil, nil }
