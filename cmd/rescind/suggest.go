package main

import (
	"errors"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rescind/revocation/printable"
)

// maxTypos is the number of typing errors up to which a name is suggested.
const maxTypos = 2

// known refuses a word that names no command under cmd.
func known(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = maxTypos
	return usage("there is no command %q%s", args[0], didYouMean(cmd.SuggestionsFor(args[0])))
}

// topic refuses an argument of help that names no command.
func topic(help *cobra.Command, args []string) error {
	cmd, rest, err := help.Root().Find(args)
	if err != nil {
		return usage("%w", err)
	}
	return known(cmd, rest)
}

// explainFlag adds to the error about an unknown flag the flags of cmd with a
// similar name.
func explainFlag(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) {
		return err
	}
	name, dashes := missing.GetSpecifiedName(), "--"
	if short := missing.GetSpecifiedShortnames(); short != "" { // -reason in the place of --reason
		name, dashes = short, "-"
	}
	return usage("unknown flag %s%s%s", dashes, printable.Quote(name), didYouMean(similarFlags(cmd.Flags(), name)))
}

// similarFlags returns the flags with the fewest typing errors between their name
// and this one, each with its dashes. A name that is the beginning of a flag has
// none.
func similarFlags(of *pflag.FlagSet, name string) (similar []string) {
	fewest := maxTypos
	of.VisitAll(func(f *pflag.Flag) {
		typos := levenshtein.ComputeDistance(name, f.Name)
		switch {
		case len(name) > 1 && strings.HasPrefix(f.Name, name):
			typos = 0
		case typos >= len(name): // no character in common
			return
		}
		if typos < fewest {
			similar, fewest = nil, typos
		}
		if typos == fewest {
			similar = append(similar, "--"+f.Name)
		}
	})
	return similar
}

// didYouMean returns the end of an error that suggests names.
func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", did you mean " + strings.Join(names, " or ") + "?"
}
