package ledger

import (
	"context"
	"fmt"
	"slices"

	"rescind/revocation"
	"rescind/revocation/insight"
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

// maxDotted bounds the claim names of one order that the replicas are asked about.
const maxDotted = 16

// dotted returns a warning for each claim name that was probably meant as a JSON
// Pointer and that no token seen lately has. Where a replica cannot tell, there is
// no warning.
func (a *Authority) dotted(ctx context.Context, candidates []Candidate) (out []string) {
	var names []string
	var queries []insight.ImpactQuery
	for i := range candidates {
		for _, c := range candidates[i].Target.Claims {
			pointer := c.Intended()
			if pointer == "" || len(queries) == maxDotted {
				continue
			}
			q := insight.ImpactQuery{Issuer: candidates[i].Issuer, Claims: map[string]any{c.Name: c.Value.JSON()}}
			if slices.ContainsFunc(queries, func(o insight.ImpactQuery) bool { _, same := o.Claims[c.Name]; return same && o.Issuer == q.Issuer }) {
				continue
			}
			queries = append(queries, q)
			names = append(names, fmt.Sprintf("no token seen lately has the claim %s. If a nested claim was meant, revoke by %s", c.Name, pointer))
		}
	}
	if len(queries) == 0 {
		return nil
	}
	asked := make([]query, len(queries))
	for i, q := range queries {
		asked[i], _ = queryOf(q) // one claim of a request fits
	}
	all, _ := a.guard.weigher.question(ctx, asked)
	for i, w := range all.Items {
		if w.Tokens == 0 && !w.Partial && !all.Partial && !slices.Contains(out, names[i]) {
			out = append(out, names[i])
		}
	}
	return out
}

// texts returns the warnings as the answer to an order has them.
func (l lineWarnings) texts(action string) (out []string) {
	for _, w := range l {
		if action == ActImport {
			out = append(out, fmt.Sprintf(w.Lines, w.count))
			continue
		}
		out = append(out, w.Text)
	}
	return out
}
