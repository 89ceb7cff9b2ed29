package insight

import (
	"maps"
	"slices"
	"time"

	"github.com/axiomhq/hyperloglog"
)

// What came from replicas is bounded again before it is kept or shown.
const (
	maxNetworks = 64
	maxNames    = 1024 // of a map
)

// Clean is a as it may be kept and shown: its texts are printable, its lists
// short, and its detector one that there is.
func (a Alert) Clean() (_ Alert, ok bool) {
	for _, s := range []*string{
		&a.ID, &a.Key, &a.Summary, &a.Issuer, &a.Subject, &a.TokenID, &a.Session, &a.Client, &a.KeyID, &a.Policy, &a.RevocationID,
	} {
		*s = Text(*s)
	}
	a.Networks, a.Replicas, a.Credentials = texts(a.Networks), texts(a.Replicas), texts(a.Credentials)
	return a, slices.Contains(Detectors, a.Detector) && a.Key != "" && a.Count > 0
}

func texts(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, 0, min(len(list), maxNetworks))
	for _, s := range list[:min(len(list), maxNetworks)] {
		out = append(out, Text(s))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// MergeAlerts makes one of two alerts with one Key. a is the one that is kept:
// its ID and what it says of the token stay. Counts add up.
func MergeAlerts(a, b Alert) Alert {
	if b.Last.After(a.Last) {
		a.Last, a.Summary = b.Last, b.Summary
	}
	a.First = earlier(a.First, b.First)
	a.Count += b.Count
	a.Networks = texts(append(slices.Clone(a.Networks), b.Networks...))
	a.Replicas = texts(append(slices.Clone(a.Replicas), b.Replicas...))
	a.Credentials = texts(append(slices.Clone(a.Credentials), b.Credentials...))
	a.Hearsay = a.Hearsay && b.Hearsay
	return a
}

// MergeActivities makes one of what several replicas saw.
func MergeActivities(of ...Activity) Activity {
	all := Activity{Networks: map[string]uint64{}, Policies: map[string]uint64{}, Outcomes: map[string]uint64{}}
	for _, a := range of {
		all.Since = later(all.Since, a.Since)
		all.First, all.Last = earlier(all.First, a.First), later(all.Last, a.Last)
		all.Count += a.Count
		all.Partial = all.Partial || a.Partial
		for _, m := range []struct{ into, from map[string]uint64 }{
			{all.Networks, a.Networks}, {all.Policies, a.Policies}, {all.Outcomes, a.Outcomes},
		} {
			if !add(m.into, m.from) {
				all.Partial = true
			}
		}
	}
	return all
}

// add says whether there was room for all.
func add(into, from map[string]uint64) bool {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		text := Text(name)
		if _, there := into[text]; !there && len(into) >= maxNames {
			return false
		}
		into[text] += from[name]
	}
	return true
}

// MergeImpacts makes one of what several replicas saw. A token, subject or
// session that several saw counts once, as exactly as their sketches can tell.
func MergeImpacts(of ...Impact) Impact {
	var all Impact
	tokens, subjects, sessions := union{precision: ImpactPrecision}, union{precision: ImpactPrecision}, union{precision: ImpactPrecision}
	for _, i := range of {
		all.Since = later(all.Since, i.Since)
		all.Requests = addUp(all.Requests, i.Requests)
		all.Total = addUp(all.Total, i.Total)
		whole := tokens.add(i.TokensSketch, i.Tokens) && subjects.add(i.SubjectsSketch, i.Subjects) && sessions.add(i.SessionsSketch, i.Sessions)
		all.Partial = all.Partial || i.Partial || !whole
	}
	all.Tokens, all.Subjects, all.Sessions = tokens.count(), subjects.count(), sessions.count()
	return all
}

// union counts what is in at least one of several sets. While there is but
// one, the count is its own.
type union struct {
	precision byte
	sketch    *hyperloglog.Sketch
	sets      int
	alone     uint64
	least     uint64 // of those that came without a sketch
}

func (u *union) add(raw []byte, count uint64) (ok bool) {
	if count == 0 {
		return true
	}
	u.sets++
	u.alone = count
	s, ok := readCounter(raw, u.precision)
	if !ok {
		u.least += count
		return false
	}
	if u.sketch == nil {
		u.sketch = s
		return true
	}
	if err := u.sketch.Merge(s); err != nil {
		u.least += count
		return false
	}
	return true
}

func (u *union) count() uint64 {
	switch {
	case u.sets == 1:
		return u.alone
	case u.sketch == nil:
		return u.least
	}
	return u.sketch.Estimate() + u.least
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
