package main

import "strings"

// required is a flag that a command cannot do without.
type required struct {
	flag  string
	given bool
}

// need names every missing flag at once.
func (a *app) need(flags ...required) error {
	var missing []string
	for _, f := range flags {
		if !f.given {
			missing = append(missing, "--"+f.flag)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, ", ")
	return usage(
		textf("%s の指定がありません", "%s is missing", list),
		textf("付けてもう一度実行してください: %s", "run it again with %s", list))
}
