package replica

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rescind/revocation"
)

// naive is the set as one would write it down: every rule of the contract in a
// few lines, and no index.
type naive map[revocation.ID]revocation.Revocation

func (n naive) denies(t *revocation.Token, now revocation.Micros) bool {
	for _, r := range n {
		if r.ExpiresAt > now && matches(&r, t) && (r.Before == 0 || !t.HasIssuedAt || t.IssuedAt < r.Before) {
			return true
		}
	}
	return false
}

// lasting returns how many revocations have not ended.
func (n naive) lasting(now revocation.Micros) int {
	count := 0
	for _, r := range n {
		if r.ExpiresAt > now {
			count++
		}
	}
	return count
}

func matches(r *revocation.Revocation, t *revocation.Token) bool {
	if r.Issuer != t.Issuer {
		return false
	}
	switch r.Target.Kind {
	case revocation.KindAll:
		return true
	case revocation.KindKeyID:
		return t.KeyID == r.Target.KeyID
	case revocation.KindToken:
		return t.Hash == r.Target.Token
	}
	return !slices.ContainsFunc(r.Target.Claims, func(c revocation.Claim) bool { return !hasClaim(c, t.Claims) })
}

// hasClaim reports whether a token has the equality c.
func hasClaim(c revocation.Claim, claims map[string]any) bool {
	switch c.Name {
	case "client_id":
		return has(c, claims["client_id"]) || has(c, claims["azp"]) || has(c, claims["cid"]) || has(c, claims["appid"])
	case "/deep/a":
		deep, _ := claims["deep"].(map[string]any)
		return has(c, deep["a"])
	}
	return has(c, claims[c.Name])
}

func has(c revocation.Claim, claim any) bool {
	if array, ok := claim.([]any); ok {
		return slices.ContainsFunc(array, func(e any) bool { _, nested := e.([]any); return !nested && has(c, e) })
	}
	if text, ok := claim.(string); ok && (c.Name == "scope" || c.Name == "scp") && slices.Contains(strings.Fields(text), c.Value.String()) {
		return true
	}
	return revocation.Shown(claim) == c.Value.String() && (c.Name != "scope" || !strings.Contains(c.Value.String(), " "))
}

// Few values, so that revocations and tokens meet. The names from c0 on make
// more shapes than a look-up goes through one by one.
var (
	genIssuer = rapid.SampledFrom([]string{idp, "https://other.example/"})
	genName   = rapid.SampledFrom([]string{"sub", "jti", "scope", "scp", "groups", "client_id", "azp", "/deep/a", "deep", "c0", "c1", "c2"})
	genScalar = rapid.SampledFrom([]any{"a", "b", "1", "true", json.Number("1"), json.Number("1.0"), json.Number("2"), json.Number("-0"), json.Number("0e9"), true, false})
	genIAT    = rapid.Int64Range(95, 105)
	genLife   = rapid.SampledFrom([]int64{1, 60_000_000, 400_000_000, 3_600_000_000, 86_400_000_000})
)

func genRevocation(t *rapid.T, now int64, id revocation.ID) revocation.Revocation {
	r := revocation.Revocation{ID: id, Issuer: genIssuer.Draw(t, "issuer"), Target: revocation.Target{Kind: revocation.Kind(rapid.IntRange(1, 4).Draw(t, "kind"))}}
	switch r.Target.Kind {
	case revocation.KindClaims:
		for _, name := range rapid.SliceOfNDistinct(genName, 1, 3, rapid.ID).Draw(t, "names") {
			r.Target.Claims = append(r.Target.Claims, revocation.Claim{Name: name, Value: value(genScalar.Draw(t, "value"))})
		}
		slices.SortFunc(r.Target.Claims, func(a, b revocation.Claim) int {
			return strings.Compare(strings.ReplaceAll(a.Name, "/", "\xff"), strings.ReplaceAll(b.Name, "/", "\xff"))
		})
	case revocation.KindKeyID:
		r.Target.KeyID = rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "kid")
	case revocation.KindToken:
		r.Target.Token[0] = byte(rapid.IntRange(0, 1).Draw(t, "hash"))
	}
	if rapid.Bool().Draw(t, "bounded") {
		r.Before = seconds(genIAT.Draw(t, "before"))
	}
	r.ExpiresAt = seconds(now) + revocation.Micros(genLife.Draw(t, "life"))
	return r
}

func genToken(t *rapid.T) *revocation.Token {
	tok := &revocation.Token{Issuer: genIssuer.Draw(t, "issuer"), KeyID: rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(t, "kid"), Claims: map[string]any{}}
	tok.Hash[0] = byte(rapid.IntRange(0, 2).Draw(t, "hash"))
	for _, name := range []string{"sub", "jti", "scope", "scp", "groups", "client_id", "azp", "cid", "appid", "deep", "c0", "c1", "c70"} {
		if name == "deep" && rapid.Bool().Draw(t, "an object") {
			tok.Claims[name] = map[string]any{"a": genScalar.Draw(t, "nested"), "b": "a"}
			continue
		}
		switch rapid.IntRange(0, 4).Draw(t, name) {
		case 0:
		case 1:
			tok.Claims[name] = genScalar.Draw(t, "value")
		case 2:
			var array []any
			for range rapid.IntRange(0, 3).Draw(t, "n") {
				array = append(array, genScalar.Draw(t, "element"))
			}
			tok.Claims[name] = append(array, nil, map[string]any{"a": "b"}, []any{"a"})[:rapid.IntRange(0, len(array)+3).Draw(t, "cut")]
		case 3:
			tok.Claims[name] = rapid.SampledFrom([]string{"a b", "b", " ab  1 "}).Draw(t, "words")
		case 4:
			tok.Claims[name] = rapid.SampledFrom([]any{nil, map[string]any{"a": genScalar.Draw(t, "nested")}, ""}).Draw(t, "odd")
		}
	}
	if tok.HasIssuedAt = rapid.Bool().Draw(t, "has iat"); tok.HasIssuedAt {
		tok.IssuedAt = seconds(genIAT.Draw(t, "iat"))
	}
	return tok
}

// setMachine is the state of a run of the model test.
type setMachine struct {
	now      int64 // seconds
	set      *set
	model    naive
	all      []revocation.Revocation
	counts   positives
	revision uint64
	again    []*Again // some tokens that were looked up before
}

func (m *setMachine) at() clock { return clock{now: seconds(m.now), ended: seconds(m.now)} }

func (m *setMachine) nextID(t *rapid.T) revocation.ID {
	m.revision++
	return revocation.ID{Revision: m.revision, Index: uint32(rapid.IntRange(0, 300).Draw(t, "index"))}
}

// add adds revocations in one change.
func (m *setMachine) add(t *rapid.T, rs ...revocation.Revocation) {
	entries := make([]revocation.Entry, len(rs))
	for i, r := range rs {
		entries[i] = r.Entry()
		m.model[r.ID] = r
	}
	m.all = append(m.all, rs...)
	noError(t, "apply", m.set.apply(entries, nil, m.at()))
}

// remove restores the revocations in one change.
func (m *setMachine) remove(t *rapid.T, rs ...revocation.Revocation) {
	entries := make([]revocation.Entry, len(rs))
	for i, r := range rs {
		entries[i] = r.Entry()
		delete(m.model, r.ID)
	}
	noError(t, "apply", m.set.apply(nil, entries, m.at()))
}

func (m *setMachine) one(t *rapid.T) (r revocation.Revocation, ok bool) {
	if len(m.all) == 0 {
		return r, false
	}
	return rapid.SampledFrom(m.all).Draw(t, "one of all"), true
}

// sameTarget returns all revocations whose entry has the digest of r.
func (m *setMachine) sameTarget(r revocation.Revocation) []revocation.Revocation {
	digest := r.Entry().Digest
	return slices.DeleteFunc(slices.Clone(m.all), func(o revocation.Revocation) bool { return o.Entry().Digest != digest })
}

// check compares the set with the model.
func (m *setMachine) check(t *rapid.T) {
	noError(t, "check", m.set.check())
	tok := genToken(t)
	by, denied, err := m.set.lookup(tok, seconds(m.now), &m.counts)
	noError(t, "lookup", err)
	if want := m.model.denies(tok, seconds(m.now)); denied != want {
		t.Fatalf("token %+v: denied %v by %v, want %v", tok, denied, by, want)
	}
	if r := m.model[by.id]; denied && (!matches(&r, tok) || r.Target.Kind != by.kind) {
		t.Fatalf("token %+v: got denied by %v, which is %+v, want a revocation that matches the token", tok, by, r)
	}
	if m.again = append(m.again, NewAgain(tok)); len(m.again) > 5 {
		m.again = m.again[1:]
	}
	m.checkAgain(t)
	if want := m.model.lasting(seconds(m.now)); m.set.len() < want {
		t.Fatalf("the set has %d entries, want at least %d", m.set.len(), want)
	}
	minute, lasting := seconds(m.now).Minute(), 0
	for _, r := range m.model {
		if r.ExpiresAt.Minute() > minute {
			lasting++
		}
	}
	if got, ok := m.set.lasting(minute); !ok || got != lasting {
		t.Fatalf("%d entries last beyond minute %d (known: %v), want %d", got, minute, ok, lasting)
	}
	m.checkAll(t)
}

// checkAgain looks up the tokens of earlier steps once more. Each is denied as the
// model says now, also where its digests are those of earlier shapes.
func (m *setMachine) checkAgain(t *rapid.T) {
	for _, a := range m.again {
		by, denied, err := m.set.lookupAgain(a, seconds(m.now), &m.counts)
		noError(t, "lookupAgain", err)
		if want := m.model.denies(a.token, seconds(m.now)); denied != want {
			t.Fatalf("token %+v, looked up again: denied %v by %v, want %v", a.token, denied, by, want)
		}
		if r := m.model[by.id]; denied && (!matches(&r, a.token) || r.Target.Kind != by.kind) {
			t.Fatalf("token %+v, looked up again: got denied by %v, which is %+v, want a revocation that matches the token", a.token, by, r)
		}
	}
}

// checkAll compares all entries and shapes with the model. A shape without an
// entry must be forgotten.
func (m *setMachine) checkAll(t *rapid.T) {
	inUse, seen := map[revocation.Shape]bool{}, map[revocation.ID]bool{}
	noError(t, "each", m.set.each(func(part []revocation.Entry) error {
		for _, e := range part {
			r := m.model[e.ID]
			if r.ExpiresAt > seconds(m.now) && e != r.Entry() {
				t.Fatalf("each yielded %+v, want %+v", e, r.Entry())
			}
			seen[e.ID], inUse[e.Shape] = true, true
		}
		return nil
	}))
	if len(seen) != m.set.len() {
		t.Fatalf("each yielded %d entries, want %d", len(seen), m.set.len())
	}
	s := &m.set.shapes
	if len(s.numbers) != len(inUse) || len(s.uses) != len(inUse) || len(s.touched) != 0 {
		t.Fatalf("%d numbers, %d uses and %d touched numbers of shapes, want %d, %d and 0", len(s.numbers), len(s.uses), len(s.touched), len(inUse), len(inUse))
	}
	published := 0
	for _, shapes := range m.set.view.Load().shapes {
		published += len(shapes.nameless)
		for _, g := range shapes.groups {
			published += len(g.shapes)
		}
	}
	if published != len(inUse) {
		t.Fatalf("readers see %d shapes, want %d", published, len(inUse))
	}
}

// TestSetAgainstAModel adds, repeats, restores, returns, sweeps and renews, one
// entry and many at a time. The set denies the tokens that the naive set
// denies, and no others.
func TestSetAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &setMachine{now: 1000, set: newSet(0), model: naive{}}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) { m.add(t, genRevocation(t, m.now, m.nextID(t))) },
			"repeat": func(t *rapid.T) {
				if r, ok := m.one(t); ok && m.model[r.ID].ID == r.ID {
					noError(t, "apply", m.set.apply([]revocation.Entry{r.Entry()}, nil, m.at()))
				}
			},
			"restore": func(t *rapid.T) {
				if r, ok := m.one(t); ok {
					m.remove(t, r)
				}
			},
			"replace": func(t *rapid.T) { // one revocation takes the place of others in one change
				if r, ok := m.one(t); ok {
					n := genRevocation(t, m.now, m.nextID(t))
					if rapid.Bool().Draw(t, "of the same shape") {
						n.Issuer, n.Target = r.Issuer, r.Target
					}
					delete(m.model, r.ID)
					m.model[n.ID], m.all = n, append(m.all, n)
					noError(t, "apply", m.set.apply([]revocation.Entry{n.Entry()}, []revocation.Entry{r.Entry()}, m.at()))
				}
			},
			"return": func(t *rapid.T) { // as when the revocation that covered it is restored
				if r, ok := m.one(t); ok && r.ExpiresAt > seconds(m.now) {
					m.model[r.ID] = r
					noError(t, "apply", m.set.apply([]revocation.Entry{r.Entry()}, nil, m.at()))
				}
			},
			"many of one target": func(t *rapid.T) {
				first := genRevocation(t, m.now, m.nextID(t))
				many := []revocation.Revocation{first}
				for range rapid.IntRange(1, 2*runSize).Draw(t, "n") {
					r := first
					m.revision++
					r.ID.Revision = m.revision
					r.Before = seconds(95 + int64(m.revision%11))
					r.ExpiresAt += revocation.Micros(m.revision % 7)
					many = append(many, r)
				}
				m.add(t, many...)
			},
			"restore a target": func(t *rapid.T) {
				if r, ok := m.one(t); ok {
					m.remove(t, m.sameTarget(r)...)
				}
			},
			"many shapes": func(t *rapid.T) {
				var many []revocation.Revocation
				for i := range rapid.IntRange(1, 2*fewGroups).Draw(t, "n") {
					r := revocation.Revocation{ID: m.nextID(t), Issuer: idp, ExpiresAt: seconds(m.now + 500)}
					r.Target = revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: fmt.Sprint("c", i), Value: value("a")}}}
					many = append(many, r)
				}
				m.add(t, many...)
			},
			"time": func(t *rapid.T) {
				m.now += rapid.SampledFrom([]int64{1, 30, 600, 90_000}).Draw(t, "seconds")
				m.set.sweep(seconds(m.now))
			},
			"renew": func(t *rapid.T) {
				m.set.mu.Lock()
				m.set.added += minFilter * rapid.IntRange(0, 2).Draw(t, "fuller")
				m.set.mu.Unlock()
				noError(t, "renew", m.set.renew())
			},
			"": m.check,
		})
	})
}
