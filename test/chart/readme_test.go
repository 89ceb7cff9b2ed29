package chart

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// node is a part of values.schema.json.
type node struct {
	Ref                  string `json:"$ref"`
	Properties           map[string]node
	AdditionalProperties any
	Items                *node
	Defs                 map[string]node `json:"$defs"`
}

func schema(t *testing.T) node {
	t.Helper()
	var s node
	if err := json.Unmarshal(file(t, filepath.Join(Dir, "values.schema.json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// The table of the README names each key that the schema has at the top, and no key
// that the schema has not.
func TestReadmeNamesTheValues(t *testing.T) {
	_, rest, _ := strings.Cut(string(file(t, filepath.Join(Dir, "README.md"))), "\n## Values\n")
	table, _, _ := strings.Cut(rest, "\n## Behaviour\n")
	top := schema(t).Properties
	seen := map[string]bool{"global": true} // Helm's own
	key := regexp.MustCompile("`([A-Za-z]+)`")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		var below node
		for _, name := range key.FindAllStringSubmatch(cells[1], -1) {
			var there bool
			if below, there = top[name[1]]; !there {
				t.Errorf("the README has the key %s, which the schema refuses", name[1])
			}
			seen[name[1]] = true
		}
		of := regexp.MustCompile(`\([^)]*\)|: .*`).ReplaceAllString(cells[2], "")
		for _, name := range key.FindAllStringSubmatch(of, -1) {
			if _, there := below.Properties[name[1]]; !there {
				t.Errorf("the README has the key %s.%s, which the schema refuses", strings.TrimSpace(cells[1]), name[1])
			}
		}
	}
	if got, want := slices.Sorted(maps.Keys(seen)), slices.Sorted(maps.Keys(top)); !slices.Equal(got, want) {
		t.Errorf("the README has the keys %q, want those of the schema: %q", got, want)
	}
}

// The values in the README render.
func TestReadmeValuesRender(t *testing.T) {
	_, rest, _ := strings.Cut(string(file(t, filepath.Join(Dir, "README.md"))), "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the README has no values")
	}
	values := Values{}
	if err := yaml.UnmarshalStrict([]byte(regexp.MustCompile(`(?m)^   `).ReplaceAllString(text, "")), &values); err != nil {
		t.Fatal(err)
	}
	files, err := Render(values)
	if err != nil {
		t.Fatal(err)
	}
	shared.conforms(t, Objects(files))
	shared.accepts(t, Objects(files))
}

// The schema knows the keys of the example configurations, in which every key of the
// product stands, so a new key of the product is not refused.
func TestSchemaKnowsTheExamples(t *testing.T) {
	for part, own := range map[string][]string{
		"control": {"http", "intake_http", "feed.listen", "feed.tls", "feed.plaintext", "store.dir", "store.cluster", "store.nats"},
		"authz":   {"http", "known_tokens", "grpc.listen", "grpc.tls", "grpc.socket_mode", "revocation.control", "revocation.token_file", "revocation.tls", "revocation.plaintext", "revocation.name", "revocation.dir"},
	} {
		text, err := os.ReadFile("../../cmd/rescind/" + part + ".example.yaml")
		if err != nil {
			t.Fatal(err)
		}
		s := schema(t)
		config := s.Properties[part].Properties["config"]
		for _, key := range keysOf(t, string(text)) {
			if covered(own, key) {
				continue
			}
			if !s.has(config, strings.Split(key, ".")) {
				t.Errorf("%s.config: the schema refuses %s, want it as a key of the product, or of the chart", part, key)
			}
		}
	}
}

// keyLine is a line with a key, which may be in a comment.
var keyLine = regexp.MustCompile(`^( *)(?:# ?)?( *)(- )?([a-z_]+):(?: |$)`)

// keysOf returns the keys of an example, down to the third level, with those in
// comments.
func keysOf(t *testing.T, text string) (keys []string) {
	t.Helper()
	type level struct {
		indent int
		key    string
	}
	var path []level
	for line := range strings.Lines(text) {
		m := keyLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil || m[4] == "true" || m[4] == "false" { // the last two begin a sentence
			continue
		}
		at := level{len(m[1]) + len(m[2]) + len(m[3]), m[4]}
		for len(path) > 0 && path[len(path)-1].indent >= at.indent {
			path = path[:len(path)-1]
		}
		var names []string
		for _, l := range append(path, at) {
			names = append(names, l.key)
		}
		path = append(path, at)
		if len(names) <= 3 {
			keys = append(keys, strings.Join(names, "."))
		}
	}
	if len(keys) < 40 {
		t.Errorf("got the keys %q, want those of a whole configuration", keys)
	}
	return keys
}

func covered(own []string, key string) bool {
	return slices.ContainsFunc(own, func(k string) bool { return key == k || strings.HasPrefix(key, k+".") })
}

// has reports whether the schema allows a key below a node.
func (s node) has(n node, key []string) bool {
	if n.Ref != "" {
		n = s.Defs[strings.TrimPrefix(n.Ref, "#/$defs/")]
	}
	if n.Items != nil {
		return s.has(*n.Items, key)
	}
	if len(key) == 0 || n.Properties == nil && n.AdditionalProperties == nil {
		return true // the schema leaves everything below to the product
	}
	if below, there := n.Properties[key[0]]; there {
		return s.has(below, key[1:])
	}
	named, open := n.AdditionalProperties.(map[string]any) // by names of the operator
	if !open {
		return false
	}
	var below node
	text, err := json.Marshal(named)
	return err == nil && json.Unmarshal(text, &below) == nil && s.has(below, key[1:])
}
