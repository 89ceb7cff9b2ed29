package main

import (
	"strings"

	"github.com/rivo/uniseg"

	"rescind/cmd/internal/terminal"
	"rescind/revocation/printable"
)

// column is a column of a table.
type column struct {
	title string
	least int  // narrowest width in columns of the terminal; 0: the cells are never cut
	wide  bool // -o wide alone shows it
}

// cell is the text of a table, with its meaning.
type cell struct {
	text string
	tone tone
}

// table prints rows in columns. On a terminal it fits its width: the widest cells
// are cut first, each column down to its least width, and then the last columns
// are left out. With -o wide and outside a terminal it shows every cell in full.
type table struct {
	*screen
	columns []column
	rows    [][]cell
	headed  bool
}

const gap = 2 // columns of the terminal between two columns of a table

// add adds a row, with a cell for each column.
func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// flush prints the rows and forgets them. The first flush with a row also prints
// the heading.
func (t *table) flush() error {
	if len(t.rows) == 0 {
		return nil
	}
	if !t.headed {
		t.headed = true
		heading := make([]cell, len(t.columns))
		for i, c := range t.columns {
			heading[i].text = c.title
		}
		t.rows = append([][]cell{heading}, t.rows...)
	}
	shown, widths := t.layout()
	var b strings.Builder
	for _, row := range t.rows {
		line := ""
		for n, i := range shown {
			text := row[i].text
			if !t.wide && t.width > 0 {
				text = terminal.Fit(text, widths[i])
			}
			space := strings.Repeat(" ", widths[i]-uniseg.StringWidth(text)+gap)
			if n == len(shown)-1 {
				space = ""
			}
			line += t.paint(text, row[i].tone) + space
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	t.rows = nil
	return t.print(b.String())
}

// issuer returns the cell of an issuer. Where the table is cut to fit, an issuer
// that is a URL comes without its scheme, which says the least.
func (t *table) issuer(name string) cell {
	if t.width > 0 && !t.wide {
		name = strings.TrimPrefix(name, "https://")
	}
	return cell{text: printable.Quote(name)}
}

// layout returns the columns to show, and the width of each column.
func (t *table) layout() (shown, widths []int) {
	widths = make([]int, len(t.columns))
	for i, c := range t.columns {
		if c.wide && !t.wide {
			continue
		}
		shown = append(shown, i)
		for _, row := range t.rows {
			widths[i] = max(widths[i], uniseg.StringWidth(row[i].text))
		}
	}
	if t.wide || t.width == 0 {
		return shown, widths
	}
	for len(shown) > 1 && t.total(shown, t.least(widths)) > t.width {
		shown = shown[:len(shown)-1]
	}
	least := t.least(widths)
	for t.total(shown, widths) > t.width {
		widest := -1
		for _, i := range shown {
			if widths[i] > least[i] && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break // one column alone is wider than the terminal
		}
		widths[widest]--
	}
	return shown, widths
}

// least returns the narrowest width of each column.
func (t *table) least(widths []int) []int {
	least := make([]int, len(widths))
	for i, c := range t.columns {
		if least[i] = widths[i]; c.least > 0 {
			least[i] = min(widths[i], c.least)
		}
	}
	return least
}

// total returns the width of a line of these columns.
func (t *table) total(shown, widths []int) int {
	sum := gap * (len(shown) - 1)
	for _, i := range shown {
		sum += widths[i]
	}
	return sum
}
