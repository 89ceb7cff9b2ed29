package ledger

import (
	"fmt"

	"rescind/revocation"
)

// lineWarnings counts the lines of an order that have the same warning. There are
// few different ones, however many lines an import has.
type lineWarnings []countedWarning

type countedWarning struct {
	revocation.Warning // of the first line
	count              int
}

func (l *lineWarnings) add(w revocation.Warning, count int) {
	for i := range *l {
		if (*l)[i].Lines == w.Lines {
			(*l)[i].count += count
			return
		}
	}
	*l = append(*l, countedWarning{w, count})
}

func (l *lineWarnings) addAll(more lineWarnings) {
	for _, w := range more {
		l.add(w.Warning, w.count)
	}
}

// texts returns the warnings as the answer to an order has them.
func (l lineWarnings) texts(action string) (out []string) {
	for _, w := range l {
		if action == ActImport {
			out = append(out, fmt.Sprintf("%d %s", w.count, w.Lines))
			continue
		}
		out = append(out, w.Text)
	}
	return out
}
