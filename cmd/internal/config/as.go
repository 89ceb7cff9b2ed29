package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// as reads a value into x. For a faulty value it reports the fault and leaves x
// alone.
type as[T any] func(v value, x *T)

// into reads a key that may be absent. Then x keeps its default.
func into[T any](x *T, read as[T]) func(value) {
	return func(v value) {
		if !v.absent() {
			read(v, x)
		}
	}
}

// restrict reads a key whose value is a restriction. Without a value the key is
// a fault: a list whose elements are commented out would else accept everything.
func restrict[T any](x *T, read as[T]) func(value) {
	return func(v value) {
		switch {
		case !v.absent():
			read(v, x)
		case v.key:
			v.fault("has no value, so it would restrict nothing; give it one, or remove the key")
		}
	}
}

// need reads a key that must be there. The text names its purpose.
func need[T any](x *T, purpose string, read as[T]) func(value) {
	return func(v value) {
		if v.absent() {
			v.fault("is missing: %s", purpose)
			return
		}
		read(v, x)
	}
}

// section reads a mapping. It also calls read where the key is absent, because
// keys within the mapping may be required.
func section[T any](x *T, read as[T]) func(value) {
	return func(v value) { read(v, x) }
}

// check returns the fault of a text, or nil.
type check func(string) error

func text(checks ...check) as[string] {
	return func(v value, x *string) {
		s, ok := v.text()
		if !ok {
			return
		}
		for _, c := range append([]check{notEmpty}, checks...) {
			if err := c(s); err != nil {
				v.fault("%v", err)
				return
			}
		}
		*x = s
	}
}

// mayBeEmpty reads a text that switches something off if it is empty.
func mayBeEmpty(read as[string]) as[string] {
	return func(v value, x *string) {
		if n, ok := v.node.(*ast.StringNode); ok && n.Value == "" {
			*x = ""
			return
		}
		read(v, x)
	}
}

// parsed reads a value with a notation of its own, such as a duration.
func parsed[T any](parse func(string) (T, error)) as[T] {
	return func(v value, x *T) {
		s, ok := v.scalar()
		if !ok {
			return
		}
		t, err := parse(s)
		if err != nil {
			v.fault("%v", err)
			return
		}
		*x = t
	}
}

// flag reads a boolean. A variable may stand in quotes, because YAML wants them
// around ${VAR} within {} and [].
func flag(v value, x *bool) {
	switch n := v.node.(type) {
	case *ast.BoolNode:
		*x = n.Value
		return
	case *ast.StringNode:
		if v.variable && (n.Value == "true" || n.Value == "false") {
			*x = n.Value == "true"
			return
		}
	}
	v.mismatch("true or false")
}

// choice reads one of the words, and sets the value that stands for it.
func choice[T any](of map[string]T) as[T] {
	return parsed(func(s string) (T, error) {
		t, ok := of[s]
		if !ok {
			return t, fmt.Errorf("%.40q is not one of %s", s, strings.Join(slices.Sorted(maps.Keys(of)), ", "))
		}
		return t, nil
	})
}

// duration reads a duration of at least atLeast, and at most atMost if that is not
// 0.
func duration(atLeast, atMost time.Duration) as[time.Duration] {
	return parsed(func(s string) (time.Duration, error) {
		d, err := ParseDuration(s)
		switch {
		case err != nil:
			return 0, err
		case atLeast > positive && d < atLeast:
			return 0, fmt.Errorf("%s is too short; the least is %v", s, atLeast)
		case atLeast > 0 && d < atLeast:
			return 0, fmt.Errorf("%s must be above zero", s)
		case d < atLeast:
			return 0, fmt.Errorf("%s is negative", s)
		case atMost > 0 && d > atMost:
			return 0, fmt.Errorf("%s is too long; the most is %v", s, atMost)
		}
		return d, nil
	})
}

// positive is the shortest duration above zero.
const positive = time.Nanosecond

func listOf[T any](one as[T]) as[[]T] {
	return func(v value, x *[]T) {
		list := []T{}
		for _, e := range v.elements() {
			var t T
			one(e, &t)
			list = append(list, t)
		}
		*x = list
	}
}

// some reads a list that must not be empty.
func some[T any](one as[T]) as[[]T] {
	return func(v value, x *[]T) {
		if s, ok := v.node.(*ast.SequenceNode); ok && len(s.Values) == 0 {
			v.fault("is empty; name at least one")
			return
		}
		listOf(one)(v, x)
	}
}

// mapOf reads a mapping whose names the operator chooses, in the order of the
// file.
func mapOf[T any](name check, one as[T]) as[map[string]T] {
	return func(v value, x *map[string]T) {
		m := map[string]T{}
		for _, e := range v.entries() {
			if err := name(e.name); err != nil {
				e.key.fault("%v", err)
				continue
			}
			var t T
			one(e.value, &t)
			m[e.name] = t
		}
		*x = m
	}
}

// distinct refuses a value that it has read before, and names the line of the
// first one.
func distinct[T comparable](read as[T]) as[T] {
	first := map[T]int{}
	return func(v value, x *T) {
		var t, zero T
		if read(v, &t); t == zero {
			return // read has reported the fault
		}
		if line, twice := first[t]; twice {
			v.fault("duplicate value, first used on line %d", line)
			return
		}
		first[t] = v.line
		*x = t
	}
}

var errEmpty = errors.New("is empty")

func notEmpty(s string) error {
	if s == "" {
		return errEmpty
	}
	return nil
}
