package main

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// chipColours are those of FIRST TLP 2.0, always on black. AMBER and
// AMBER+STRICT share one: the word carries the meaning.
var chipColours = map[tlp.Label]string{
	tlp.Red:         "#FF2B2B",
	tlp.AmberStrict: "#FFC000",
	tlp.Amber:       "#FFC000",
	tlp.Green:       "#33FF00",
	tlp.Clear:       "#FFFFFF",
}

// chip is a label as it is shown: in its colours on a terminal, the bare word
// otherwise. What is no label is shown as none.
func (a *app) chip(label string) string {
	l, _, err := tlp.Parse(label)
	if err != nil {
		return a.t("TLPなし", "NO-TLP")
	}
	if !a.outTTY {
		return l.String()
	}
	return lipgloss.NewStyle().Bold(true).Padding(0, 1).
		Background(lipgloss.Color("#000000")).Foreground(lipgloss.Color(chipColours[l])).
		Render(l.String())
}

// titled is a title for one line. An exercise always carries its mark, and a
// real report never does, whatever its author wrote.
func (a *app) titled(lane pb.Lane, title string) string {
	title = strings.NewReplacer("【訓練】", "[訓練]", "(EXERCISE)", "[EXERCISE]").Replace(plain(title))
	if lane == pb.Lane_LANE_EXERCISE {
		return a.t("【訓練】", "【訓練】(EXERCISE) ") + title
	}
	return title
}

// number is the place of a report in its case: 第2報, 第3報(訂正).
func (a *app) number(seq uint32, stage pb.Stage) string {
	s := fmt.Sprintf(a.t("第%d報", "#%d"), seq)
	switch stage {
	case pb.Stage_STAGE_FINAL, pb.Stage_STAGE_CORRECTION, pb.Stage_STAGE_WITHDRAWAL:
		s += "(" + word(stage).in(a.lang) + ")"
	}
	return s
}

var tokyo = func() *time.Location {
	zone, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		panic("time zone Asia/Tokyo is compiled in: " + err.Error())
	}
	return zone
}()

// moment is a time to the minute: Japanese time in Japanese, local otherwise.
func (a *app) moment(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	zone := time.Local
	if a.lang == japanese {
		zone = tokyo
	}
	return t.AsTime().In(zone).Format("2006-01-02 15:04")
}

// shortID is the start of an id, enough to type.
func shortID(id string) string { return plain(cut(id, 8)) }

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// facts prints names and values below each other, aligned on screen; what has
// no value is left out. A long list goes on below its beginning.
func (a *app) facts(rows [][2]string) error {
	width := 0
	for _, row := range rows {
		if row[1] != "" {
			width = max(width, lipgloss.Width(row[0]))
		}
	}
	for _, row := range rows {
		if strings.TrimSpace(row[1]) == "" {
			continue
		}
		name := row[0] + strings.Repeat(" ", width-lipgloss.Width(row[0])) + "  "
		if err := a.sayWrapped(name, strings.Repeat(" ", width+2), strings.Split(row[1], ", ")); err != nil {
			return err
		}
	}
	return nil
}

// list prints items: a table on a terminal, one plain line each otherwise. The
// last column is free text and stands after two spaces.
type list struct {
	a       *app
	stream  bool // lines even on a terminal, since items come one by one
	headers []string
	rows    [][]string
}

func (a *app) list(headers ...string) *list { return &list{a: a, headers: headers} }

// add takes one item, a cell for each header.
func (l *list) add(cells ...string) error {
	for i, cell := range cells {
		cells[i] = or(cell, "-")
	}
	if l.a.outTTY && !l.stream {
		l.rows = append(l.rows, cells)
		return nil
	}
	last := len(cells) - 1
	return l.a.say(strings.Join(cells[:last], " ") + "  " + cells[last])
}

// end prints what add has collected.
func (l *list) end() error {
	if len(l.rows) == 0 {
		return nil
	}
	return l.a.say(l.render())
}

func (l *list) render() string {
	cell := lipgloss.NewStyle().Padding(0, 1)
	t := table.New().Border(lipgloss.NormalBorder()).BorderRow(false).
		Headers(l.headers...).Rows(l.rows...).
		StyleFunc(func(row, _ int) lipgloss.Style {
			if row == table.HeaderRow {
				return cell.Bold(true)
			}
			return cell
		})
	out := t.Render()
	if width := l.a.width; width > 0 && lipgloss.Width(out) > width {
		out = t.Width(width).Render()
	}
	return out
}
