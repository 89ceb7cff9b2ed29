package chart

import (
	"testing"
)

// Each case is a deployment that an operator may want. Its objects have no unknown
// field, its pods have no privilege, and the product accepts its configuration.
func TestCases(t *testing.T) {
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := Render(values)
			if err != nil {
				t.Fatal(err)
			}
			objects := Objects(files)
			shared.conforms(t, objects)
			shared.accepts(t, objects)
		})
	}
}
