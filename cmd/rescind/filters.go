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
