package chart

import (
	"path/filepath"
	"strings"

	"helm.sh/helm/v3/pkg/chartutil"
)

// Cases returns the values of each file in testdata/cases over those of
// testdata/base.yaml, by the name of the file.
func Cases() (map[string]Values, error) {
	paths, err := filepath.Glob("testdata/cases/*.yaml")
	if err != nil {
		return nil, err
	}
	cases := map[string]Values{}
	for _, path := range paths {
		values, err := Over(path)
		if err != nil {
			return nil, err
		}
		cases[strings.TrimSuffix(filepath.Base(path), ".yaml")] = values
	}
	return cases, nil
}

// Over returns the values of a file over those of testdata/base.yaml. Lists and
// values replace those of the base.
func Over(path string) (Values, error) {
	base, err := Read("testdata/base.yaml")
	if err != nil {
		return nil, err
	}
	own, err := Read(path)
	if err != nil {
		return nil, err
	}
	return chartutil.CoalesceTables(own, base), nil
}
