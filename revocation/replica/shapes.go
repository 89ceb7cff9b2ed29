package replica

import (
	"maps"
	"slices"
	"sync/atomic"

	"rescind/revocation"
)

// shapeNumber stands for a shape in the records of a set. A number is never
// used again for another shape, so a reader of old records cannot take one shape
// for another.
type shapeNumber uint64

// shapeTable holds the shapes in use. A shape without entries is forgotten. The
// table belongs to the writer of a set.
type shapeTable struct {
	numbers map[revocation.Shape]shapeNumber
	uses    map[shapeNumber]*shapeUse
	last    shapeNumber
	touched []shapeNumber                   // numbered or counted since the last publish
	issuers map[string]map[shapeNumber]bool // the shapes that readers see, by issuer
}

type shapeUse struct {
	shape   revocation.Shape
	entries int
}

func newShapeTable() shapeTable {
	return shapeTable{
		numbers: map[revocation.Shape]shapeNumber{}, uses: map[shapeNumber]*shapeUse{}, issuers: map[string]map[shapeNumber]bool{},
	}
}

// number gives the shapes of entries their numbers.
func (t *shapeTable) number(entries []revocation.Entry) {
	for i := range entries {
		shape := entries[i].Shape
		if i > 0 && shape == entries[i-1].Shape {
			continue
		}
		if _, ok := t.numbers[shape]; ok {
			continue
		}
		t.last++
		t.numbers[shape] = t.last
		t.uses[t.last] = &shapeUse{shape: shape}
		t.touched = append(t.touched, t.last)
	}
}

// count notes that a shape has n entries more, or fewer.
func (t *shapeTable) count(number shapeNumber, n int) {
	t.uses[number].entries += n
	t.touched = append(t.touched, number)
}

// publish returns the shapes that readers are to see, or nil if published is
// still right. It forgets shapes without entries.
func (t *shapeTable) publish(published map[string]*issuerShapes) map[string]*issuerShapes {
	changed := map[string]bool{}
	for _, number := range t.touched {
		use := t.uses[number]
		if use == nil { // touched twice
			continue
		}
		issuer := use.shape.Issuer
		if seen := t.issuers[issuer][number]; seen != (use.entries > 0) {
			changed[issuer] = true
			t.show(issuer, number, !seen)
		}
		if use.entries == 0 {
			delete(t.numbers, use.shape)
			delete(t.uses, number)
		}
	}
	t.touched = t.touched[:0]
	if len(changed) == 0 {
		return nil
	}
	published = maps.Clone(published)
	for issuer := range changed {
		if numbers := t.issuers[issuer]; numbers != nil {
			published[issuer] = t.index(numbers)
		} else {
			delete(published, issuer)
		}
	}
	return published
}

// show adds a shape to those that readers see, or removes it.
func (t *shapeTable) show(issuer string, number shapeNumber, seen bool) {
	if !seen {
		if delete(t.issuers[issuer], number); len(t.issuers[issuer]) == 0 {
			delete(t.issuers, issuer)
		}
		return
	}
	if t.issuers[issuer] == nil {
		t.issuers[issuer] = map[shapeNumber]bool{}
	}
	t.issuers[issuer][number] = true
}

// entries returns how many entries the shapes have together.
func (t *shapeTable) entries() int {
	n := 0
	for _, use := range t.uses {
		n += use.entries
	}
	return n
}

// clone returns the shapes in use by their numbers.
func (t *shapeTable) clone() map[shapeNumber]revocation.Shape {
	shapes := make(map[shapeNumber]revocation.Shape, len(t.uses))
	for number, use := range t.uses {
		shapes[number] = use.shape
	}
	return shapes
}

// issuerShapes are the shapes in use of one issuer. A token is looked up under
// all shapes without claim names, and under those groups that it has a member of.
// It is never changed.
type issuerShapes struct {
	generation uint64 // no other issuerShapes of the process has it
	nameless   []revocation.Shape
	groups     []shapeGroup
	byMember   map[string]int // into groups that have one member; nil: groups are few
	several    []int          // into groups that have several members
}

// shapeGenerations is the generation of the newest shapes of any issuer.
var shapeGenerations atomic.Uint64

// shapeGroup are shapes with a claim that can only be in one of these members of a
// payload.
type shapeGroup struct {
	members []string
	shapes  []revocation.Shape
}

// of reports whether a token with these claims can be revoked under the group.
func (g *shapeGroup) of(claims map[string]any) bool {
	for _, m := range g.members {
		if _, ok := claims[m]; ok {
			return true
		}
	}
	return false
}

// fewGroups is the number of groups up to which a look-up goes through all of
// them. Beyond it a look-up goes through the claims of the token instead, so
// that its cost does not grow with the number of shapes.
const fewGroups = 64

// index groups the shapes of one issuer. Each shape goes to the group of its
// rarest claim, so that a token is spared as many shapes as possible.
func (t *shapeTable) index(numbers map[shapeNumber]bool) *issuerShapes {
	out := &issuerShapes{generation: shapeGenerations.Add(1)}
	frequency := map[string]int{} // by the first member of a claim
	for number := range numbers {
		for _, members := range t.uses[number].shape.Members() {
			frequency[members[0]]++
		}
	}
	type claim struct {
		member  string
		several bool
	}
	groups := map[claim]int{}
	for number := range numbers {
		shape := t.uses[number].shape
		claims := shape.Members()
		if claims == nil {
			out.nameless = append(out.nameless, shape)
			continue
		}
		rarest := slices.MinFunc(claims, func(a, b []string) int { return frequency[a[0]] - frequency[b[0]] })
		in := claim{rarest[0], len(rarest) > 1}
		i, ok := groups[in]
		if !ok {
			i = len(out.groups)
			groups[in] = i
			out.groups = append(out.groups, shapeGroup{members: rarest})
		}
		out.groups[i].shapes = append(out.groups[i].shapes, shape)
	}
	if len(out.groups) > fewGroups {
		out.byMember = map[string]int{}
		for in, i := range groups {
			if in.several {
				out.several = append(out.several, i)
			} else {
				out.byMember[in.member] = i
			}
		}
	}
	return out
}

// under yields the shapes under which a token with these claims can be revoked,
// until yield returns false.
func (s *issuerShapes) under(claims map[string]any, yield func(*revocation.Shape) (more bool)) {
	for i := range s.nameless {
		if !yield(&s.nameless[i]) {
			return
		}
	}
	if s.byMember == nil {
		for i := range s.groups {
			if g := &s.groups[i]; g.of(claims) && !g.each(yield) {
				return
			}
		}
		return
	}
	for _, i := range s.several {
		if g := &s.groups[i]; g.of(claims) && !g.each(yield) {
			return
		}
	}
	for member := range claims {
		if i, ok := s.byMember[member]; ok && !s.groups[i].each(yield) {
			return
		}
	}
}

func (g *shapeGroup) each(yield func(*revocation.Shape) bool) bool {
	for i := range g.shapes {
		if !yield(&g.shapes[i]) {
			return false
		}
	}
	return true
}
