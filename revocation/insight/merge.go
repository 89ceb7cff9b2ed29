package insight

import (
	"maps"
	"slices"
	"time"

	"github.com/axiomhq/hyperloglog"
)

// Bounds of a report of a replica that is kept or shown.
const (
	maxNetworks = 64
	maxNames    = 1024 // of a map
)

// Clean returns a with printable texts and short lists. It is not ok if a has
// no key, no sighting, or a detector that is not one of [Detectors].
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

// MergeAlerts returns one alert for two with one Key. The ID of a and the facts
// of a about the token stay. Counts add up.
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

// MergeActivities adds up the activities that several replicas saw.
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

// add adds up counts by name. It reports whether there was room for every name.
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

// MergeImpacts adds up the impacts that several replicas saw. A token, subject
// or session that several replicas saw counts once, as exactly as the sketches
// can tell.
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

// union counts the members of several sets, each member once. The count of a
// single set is exact.
type union struct {
	precision byte
	sketch    *hyperloglog.Sketch
	sets      int
	last      uint64 // count of the last set
	unmerged  uint64 // sum of the sets whose sketch cannot be read
}

func (u *union) add(raw []byte, count uint64) (ok bool) {
	if count == 0 {
		return true
	}
	u.sets++
	u.last = count
	s, ok := readCounter(raw, u.precision)
	if !ok {
		u.unmerged += count
		return false
	}
	if u.sketch == nil {
		u.sketch = s
		return true
	}
	if err := u.sketch.Merge(s); err != nil {
		u.unmerged += count
		return false
	}
	return true
}

func (u *union) count() uint64 {
	switch {
	case u.sets == 1:
		return u.last
	case u.sketch == nil:
		return u.unmerged
	}
	return u.sketch.Estimate() + u.unmerged
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
