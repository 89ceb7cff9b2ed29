package ledger

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"rescind/revocation"
)

// Query chooses from the revocations. The zero value chooses all.
type Query struct {
	Issuers [][]string    // the issuer must be in each of these sets; a nil set has every issuer
	Claims  []ClaimFilter // each must be one of the equalities
	Kind    revocation.Kind
	KeyID   string        // only revocations of this key
	Token   *[32]byte     // only the revocation of the token with this SHA-256
	By      string        // name of the credential that revoked
	Since   time.Time     // only those created at that time or later
	Active  *bool         // true: in force; false: restored
	Before  revocation.ID // only earlier ones in the log
	Limit   int
}

// ClaimFilter is an equality that a revocation must have. Without a name, the
// value is name:value as the first edition wrote it. There any colon may end the
// name, because a name may contain colons.
type ClaimFilter struct{ Name, Value string }

// valueOf returns the value that the claim of this name must have, or false if
// the filter is about another claim.
func (f ClaimFilter) valueOf(name string) (text string, ok bool) {
	if f.Name == "" {
		return strings.CutPrefix(f.Value, name+":")
	}
	return f.Value, name == f.Name
}

// maxScan bounds the rows that one page looks at.
const maxScan = 1 << 20

// List returns the newest revocations that the query chooses, newest first, up
// to the limit. next is where the next page begins; it is the zero ID on the
// last page. A page that has looked at many rows ends there, so it may have
// fewer items than the limit. Later revocations do not move the rows after
// an ID, so an ID is a stable place to go on from.
func (l *Ledger) List(q Query) (items []Item, next revocation.ID) {
	q.Limit = max(q.Limit, 1)
	in, wanted := newInterner(), &filter{Query: q, shapes: map[uint32]shapeFilter{}}
	if l.choosesNone(wanted) {
		return nil, revocation.ID{}
	}
	from := q.Before
	if from == (revocation.ID{}) {
		from = revocation.ID{Revision: 1<<64 - 1}
	}
	// One chunk at a time, so that a long search does not hold up writers.
	for chunks := 0; chunks < l.maxScan/chunkRows; chunks++ {
		var done bool
		from, done = l.listChunk(from, wanted, func(c *chunk, w *row) bool {
			if len(items) == q.Limit {
				next = items[len(items)-1].ID
				return false
			}
			items = append(items, l.item(c, w, in))
			return true
		})
		if done {
			return items, next
		}
	}
	return items, from
}

// choosesNone reports whether no shape in use can have a row that the query
// chooses.
func (l *Ledger) choosesNone(f *filter) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, n := range l.rows.shapes.numbers {
		if f.shapes[n] = f.shape(l.rows.shapes.all[n].Shape); !f.shapes[n].never {
			return false
		}
	}
	return true
}

// listChunk yields the chosen rows of the last chunk that has rows before from.
func (l *Ledger) listChunk(from revocation.ID, f *filter, yield func(*chunk, *row) bool) (next revocation.ID, done bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i, j := l.rows.seek(from)
	if j == 0 {
		i--
		if i < 0 {
			return from, true
		}
		j = len(l.rows.chunks[i].rows)
	}
	now := l.clock()
	c := l.rows.chunks[i]
	for j--; j >= 0; j-- {
		if w := &c.rows[j]; w.expires > now && f.chooses(l.rows, c, w) && !yield(c, w) {
			return from, true
		}
	}
	return c.rows[0].id(), i == 0
}

// filter is a query in progress. It decides once for each shape.
type filter struct {
	Query
	shapes map[uint32]shapeFilter
}

// shapeFilter holds the texts that a row of one shape must contain.
type shapeFilter struct {
	never  bool
	values []claimText
}

// claimText is an equality that a row must have. There is one for each claim of
// the query, and at most one for each name.
type claimText struct{ name, text string }

// chooses reports whether the query chooses a row.
func (f *filter) chooses(r *rows, c *chunk, w *row) bool {
	if f.Active != nil && *f.Active != (w.state == standing) {
		return false
	}
	s, ok := f.shapes[w.shape]
	if !ok {
		s = f.shape(r.shapes.all[w.shape].Shape)
		f.shapes[w.shape] = s
	}
	if s.never {
		return false
	}
	packed := c.packed(w)
	for _, v := range s.values { // this refuses most rows without unpacking them
		if v.text != "true" && v.text != "false" && !bytes.Contains(packed, []byte(v.text)) {
			return false
		}
	}
	for _, text := range []string{f.By, f.KeyID} {
		if !bytes.Contains(packed, []byte(text)) {
			return false
		}
	}
	return len(s.values) == 0 && f.By == "" && f.KeyID == "" && f.Token == nil && f.Since.IsZero() || f.holds(packed)
}

// shape returns the part of the decision that follows from the shape alone.
func (f *filter) shape(s revocation.Shape) (out shapeFilter) {
	for _, set := range f.Issuers {
		if set != nil && !slices.Contains(set, s.Issuer) {
			return shapeFilter{never: true}
		}
	}
	if f.Kind != 0 && s.Kind != f.Kind || f.KeyID != "" && s.Kind != revocation.KindKeyID || f.Token != nil && s.Kind != revocation.KindToken {
		return shapeFilter{never: true}
	}
	for _, claim := range f.Claims {
		var found []claimText // a name may contain a colon, so there may be several
		for _, name := range s.Names() {
			if text, ok := claim.valueOf(name); ok {
				found = append(found, claimText{name, text})
			}
		}
		switch len(found) {
		case 0:
			return shapeFilter{never: true}
		case 1:
			out.values = append(out.values, found[0])
		default:
			out.values = append(out.values, claimText{}) // any of them may hold, so the row must be unpacked
		}
	}
	return out
}

// holds reports whether a packed row has every equality of the query, its key or
// token, its credential and its time.
func (f *filter) holds(packed []byte) bool {
	r := unpack(packed, newInterner())
	switch {
	case f.By != "" && r.CreatedBy != f.By, r.CreatedAt.Before(f.Since),
		f.KeyID != "" && r.Target.KeyID != f.KeyID, f.Token != nil && r.Target.Token != *f.Token:
		return false
	}
	for _, claim := range f.Claims {
		if !slices.ContainsFunc(r.Target.Claims, func(c revocation.Claim) bool {
			text, ok := claim.valueOf(c.Name)
			return ok && text == c.Value.String()
		}) {
			return false
		}
	}
	return true
}
