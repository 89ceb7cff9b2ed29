package jwt

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// document is the example of RFC 6901, section 5, with members that tokens have.
const document = `{
	"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8,
	"sub": "alice", "none": null, "https://example.com/roles": ["reader"], "realm_access.roles": "flat", "/x": "slash",
	"realm_access": {"roles": ["admin"], "": "empty", "~1": "tilde", "none": null},
	"resource_access": {"orders": {"roles": ["clerk"]}},
	"identities": [{"userId": "7"}, {"userId": "8"}], "object": {"0": "zero", "-1": "minus"}
}`

func claimsOf(t testing.TB, text string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var claims map[string]any
	if err := d.Decode(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestClaimName(t *testing.T) {
	claims := claimsOf(t, document)
	number := func(s string) any { return json.Number(s) }
	for _, c := range []struct {
		name    string
		printed string
		member  string
		want    any // absent{} for a claim that the token does not have
	}{
		{"sub", "sub", "sub", "alice"},
		{"/sub", "sub", "sub", "alice"},
		{"none", "none", "none", nil},
		{"https://example.com/roles", "https://example.com/roles", "https://example.com/roles", []any{"reader"}},
		{"/https:~1~1example.com~1roles", "https://example.com/roles", "https://example.com/roles", []any{"reader"}},
		{"realm_access.roles", "realm_access.roles", "realm_access.roles", "flat"},
		{"/realm_access/roles", "/realm_access/roles", "realm_access", []any{"admin"}},
		{"/resource_access/orders/roles", "/resource_access/orders/roles", "resource_access", []any{"clerk"}},
		{"/realm_access/", "/realm_access/", "realm_access", "empty"},
		{"/realm_access/~01", "/realm_access/~01", "realm_access", "tilde"},
		{"/realm_access/none", "/realm_access/none", "realm_access", nil},
		{"/~1x", "/~1x", "/x", "slash"},
		{"/a~1b", "a/b", "a/b", number("1")},
		{"a/b", "a/b", "a/b", number("1")},
		{"/m~0n", "m~n", "m~n", number("8")},
		{"m~n", "m~n", "m~n", number("8")},
		{"/c%d", "c%d", "c%d", number("2")},
		{"/ ", " ", " ", number("7")},
		{"/foo/0", "/foo/0", "foo", "bar"},
		{"/identities/1/userId", "/identities/1/userId", "identities", "8"},
		{"/object/0", "/object/0", "object", "zero"},
		{"/object/-1", "/object/-1", "object", "minus"},

		{"SUB", "SUB", "SUB", absent{}},
		{"/x", "x", "x", absent{}},
		{"//x", "//x", "", absent{}},
		{"/foo/2", "/foo/2", "foo", absent{}},
		{"/foo/00", "/foo/00", "foo", absent{}},
		{"/foo/+1", "/foo/+1", "foo", absent{}},
		{"/foo/-1", "/foo/-1", "foo", absent{}},
		{"/foo/-", "/foo/-", "foo", absent{}},
		{"/foo/", "/foo/", "foo", absent{}},
		{"/foo/99999999999999999999", "/foo/99999999999999999999", "foo", absent{}},
		{"/sub/0", "/sub/0", "sub", absent{}},
		{"/none/x", "/none/x", "none", absent{}},
		{"/realm_access/roles/admin", "/realm_access/roles/admin", "realm_access", absent{}},
		{"/realm_access/ROLES", "/realm_access/ROLES", "realm_access", absent{}},
		{"/missing/roles", "/missing/roles", "missing", absent{}},
	} {
		n, err := ParseClaimName(c.name)
		if err != nil {
			t.Errorf("%q: got the error %v, want the name of a claim", c.name, err)
			continue
		}
		if n.String() != c.printed {
			t.Errorf("%q prints as %q, want %q", c.name, n, c.printed)
		}
		if n.Member() != c.member {
			t.Errorf("%q lies in the member %q, want %q", c.name, n.Member(), c.member)
		}
		got, ok := n.In(claims)
		if !ok {
			got = absent{}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q names %v, want %v", c.name, got, c.want)
		}
	}
}

type absent struct{}

func TestClaimNameFaults(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"", "is empty"},
		{"/", "/ names no claim"},
		{"/~", "~0 or ~1"},
		{"/~2", "~0 or ~1"},
		{"/a~", "~0 or ~1"},
		{"/a/~/b", "~0 or ~1"},
		{"/a~1~b", "~0 or ~1"},
		{strings.Repeat("/a", 33), "33 steps"},
	} {
		if n, err := ParseClaimName(c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %q and the error %v, want an error with %q", c.name, n, err, c.want)
		}
	}
	if _, err := ParseClaimName(strings.Repeat("/a", 32)); err != nil {
		t.Errorf("a pointer of 32 steps: got the error %v, want the name of a claim", err)
	}
}

// All spellings of the name of a claim are one name.
func TestClaimNameEquality(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		equal bool
	}{
		{"/sub", "sub", true},
		{"/a~1b", "a/b", true},
		{"/m~0n", "m~n", true},
		{"/~1x", "/x", false},
		{"/a/b", "/a/b", true},
		{"/a/b", "/a~1b", false},
		{"/a/b", "a/b", false},
		{"/a/b", "a.b", false},
	} {
		a, errA := ParseClaimName(c.a)
		b, errB := ParseClaimName(c.b)
		if errA != nil || errB != nil || (a == b) != c.equal {
			t.Errorf("%q == %q: got %v (%v, %v), want %v", c.a, c.b, a == b, errA, errB, c.equal)
		}
	}
	if n, err := ParseClaimName("/~1x"); err != nil || n != MemberName("/x") {
		t.Errorf("/~1x is %#v (%v), want the member /x", n, err)
	}
}

func TestIntended(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"realm_access.roles", "/realm_access/roles"},
		{"resource_access.orders.roles", "/resource_access/orders/roles"},
		{"a.b~c", "/a/b~0c"},
		{"/a.b", "/a/b"},
		{"sub", ""},
		{"/realm_access/roles", ""},
		{"/kubernetes.io/namespace", ""},
		{"https://example.com/roles", ""},
		{"example.com/roles", ""},
		{"urn:example.com:roles", ""},
		{".a", ""},
		{"a..b", ""},
		{"a.", ""},
	} {
		n, err := ParseClaimName(c.name)
		if err != nil || n.Intended() != c.want {
			t.Errorf("%q: got %q (%v), want %q", c.name, n.Intended(), err, c.want)
		}
	}
}

// A member at any path is found by the pointer that RFC 6901 writes for the path,
// and the name reads back as it prints.
func TestClaimNameFindsEveryPath(t *testing.T) {
	step := rapid.StringMatching(`[a~/01.é" -]{0,4}`)
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.SliceOfN(step, 1, 6).Draw(t, "path")
		pointer := ""
		for _, s := range path {
			pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
		}
		n, err := ParseClaimName(pointer)
		if pointer == "/" {
			if err == nil {
				t.Fatalf("%q: got the name of a claim, want an error", pointer)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: got the error %v, want the name of a claim", pointer, err)
		}
		var claims any = "found"
		for i := len(path) - 1; i >= 0; i-- {
			claims = map[string]any{path[i]: claims, path[i] + "x": "beside"}
		}
		if got, ok := n.In(claims.(map[string]any)); !ok || got != "found" {
			t.Fatalf("%q names %v, %v in %v, want found", pointer, got, ok, claims)
		}
		if n.Member() != path[0] {
			t.Fatalf("%q lies in %q, want %q", pointer, n.Member(), path[0])
		}
		parent, nested := n.Parent()
		if nested != (len(path) > 1) || nested != n.Nested() {
			t.Fatalf("%q: got Nested() %v, and a parent %v, want both %v", pointer, n.Nested(), nested, len(path) > 1)
		}
		for i := len(path) - 1; i > 1; i-- {
			parent, nested = parent.Parent()
		}
		if len(path) > 1 && parent != MemberName(path[0]) || len(path) > 2 && !nested {
			t.Fatalf("the last parent of %q: got %q, want %q", pointer, parent, path[0])
		}
		if again, err := ParseClaimName(n.String()); err != nil || again != n {
			t.Fatalf("%q prints as %q, which reads as %#v (%v), want %#v", pointer, n, again, err, n)
		}
	})
}

// FuzzClaimName holds for every text and every payload: a name reads back as it
// prints, and reading a claim does not panic, nor does it find a claim in a
// member that the payload does not have.
func FuzzClaimName(f *testing.F) {
	for _, name := range []string{"sub", "/sub", "/", "", "/~1x", "/~01", "/~2", "/a/", "/a//b", "/foo/0", "/foo/-", "realm_access.roles", "/realm_access/roles", strings.Repeat("/a", 33)} {
		f.Add(name, document)
	}
	f.Fuzz(func(t *testing.T, name, payload string) {
		n, err := ParseClaimName(name)
		if err != nil {
			return
		}
		if again, err := ParseClaimName(n.String()); err != nil || again != n {
			t.Fatalf("%q prints as %q, which reads as %#v (%v), want %#v", name, n, again, err, n)
		}
		if p := n.Intended(); p != "" {
			if _, err := ParseClaimName(p); err != nil {
				t.Fatalf("%q probably means %q: got the error %v, want the name of a claim", name, p, err)
			}
		}
		var claims map[string]any
		if json.Unmarshal([]byte(payload), &claims) != nil {
			return
		}
		if _, found := n.In(claims); found {
			if _, there := claims[n.Member()]; !there {
				t.Fatalf("%q: got a claim of %s, want none, because it has no member %q", name, payload, n.Member())
			}
		}
	})
}
