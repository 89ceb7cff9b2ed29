package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rescind/revocation/printable"
)

// notFilters are the flags that do not narrow a list.
var notFilters = []string{
	"output", "limit", "all", "follow", "control", "token-file", "ca-file", "cert-file", "key-file", "plaintext",
}

// filtersOf returns the filters of a list as they were given, behind a space, such
// as " --issuer i --active". A line about an empty list names them. Of --token it
// has the name alone.
func filtersOf(cmd *cobra.Command) string {
	var b strings.Builder
	add := func(name, value string) { b.WriteString(" --" + name + " " + printable.Quote(shellQuote(value))) }
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch v := f.Value.(type) {
		case pflag.SliceValue:
			for _, value := range v.GetSlice() {
				add(f.Name, value)
			}
		default:
			switch {
			case slices.Contains(notFilters, f.Name):
			case v.Type() == "bool", f.Name == "token": // a JWT is never printed
				b.WriteString(" --" + f.Name)
			default:
				add(f.Name, v.String())
			}
		}
	})
	return b.String()
}

// nothing says that a list is empty, and for which filters.
func (a *app) nothing(noun string) {
	if a.filters == "" {
		note(a.errs, "there is no %s", noun)
		return
	}
	note(a.errs, "no %s fits%s", noun, a.filters)
}

// notEmpty returns an error for the first of these flags that was given without a
// value. Often it is a shell variable that was not set, and to ignore it would
// revoke or show more than was meant.
func notEmpty(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return usage("--%s is empty; give it a value or leave it out", name)
		}
	}
	return nil
}
