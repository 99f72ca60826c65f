package main

import (
	"bytes"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

func onTerminal(width int) *app {
	return &app{lang: japanese, terminal: terminal{out: new(bytes.Buffer), err: new(bytes.Buffer), outTTY: true, width: width, env: func(string) string { return "" }}}
}

func TestTablesLineUpWithJapanese(t *testing.T) {
	for _, width := range []int{0, 200, 72} {
		a := onTerminal(width)
		l := a.list("ID", "報", "TLP", "情報連絡元", "件名")
		for _, row := range [][]string{
			{"3f2a9c1e", "第1報", a.chip("TLP:AMBER"), "名古屋東ターミナル", "TOSサーバで不審な外部通信 ①→…※"},
			{"00aa11bb", "第12報(訂正)", a.chip("TLP:AMBER+STRICT"), "ｶﾅ Port Co.", "short"},
			{"deadbeef", "第2報", a.chip("TLP:RED"), "", strings.Repeat("長い件名", 20)},
		} {
			require.NoError(t, l.add(row...))
		}
		lines := strings.Split(l.render(), "\n")
		require.Greater(t, len(lines), 5)
		for _, line := range lines {
			require.Equal(t, lipgloss.Width(lines[0]), lipgloss.Width(line), "width %d:\n%s", width, strings.Join(lines, "\n"))
			if width > 0 {
				require.LessOrEqual(t, lipgloss.Width(line), width)
			}
		}
	}
}

func TestAChipAlwaysSaysTheWord(t *testing.T) {
	a := onTerminal(80)
	for label, colour := range chipColours {
		got := a.chip(label.String())
		require.Contains(t, got, label.String())
		r, g, b, _ := lipgloss.Color(colour).RGBA()
		require.NotZero(t, r+g+b)
		require.Equal(t, len(label.String())+2, lipgloss.Width(got))
	}
	require.Len(t, chipColours, 5)
	require.Contains(t, a.chip(tlp.Red.String()), "255;43;43", "RED is #FF2B2B")
	require.Contains(t, a.chip(tlp.Red.String()), "48;2;0;0;0", "on black")

	a.outTTY = false
	require.Equal(t, "TLP:AMBER+STRICT", a.chip("TLP:AMBER+STRICT"))
	require.Equal(t, "TLPなし", a.chip("secret\x1b[2J"))
}

func TestAnExerciseAlwaysCarriesItsMarkAndARealReportNever(t *testing.T) {
	a := onTerminal(80)
	require.Equal(t, "【訓練】件名", a.titled(pb.Lane_LANE_EXERCISE, "件名"))
	require.NotContains(t, a.titled(pb.Lane_LANE_LIVE, "【訓練】本当です"), "【訓練】")
	a.lang = english
	require.Equal(t, "【訓練】(EXERCISE) title", a.titled(pb.Lane_LANE_EXERCISE, "title"))
	require.NotContains(t, a.titled(pb.Lane_LANE_LIVE, "(EXERCISE) real"), "(EXERCISE)")
}

func TestEveryValueThatPeopleSeeHasWordsInBothLanguages(t *testing.T) {
	for _, e := range []protoreflect.Enum{
		pb.Role(0), pb.MemberState(0), pb.Certainty(0), pb.Stage(0), pb.EventType(0), pb.CauseClass(0), pb.BusinessImpact(0),
		pb.SpreadRisk(0), pb.RecoveryState(0), pb.PersonalData(0), pb.Reaction(0), pb.OutboxState(0),
		pb.Act(0), pb.Obligation(0), pb.Flow(0), pb.Kind(0), pb.SecrecyRegime(0), pb.NoticeState(0),
	} {
		values := e.Descriptor().Values()
		for i := range values.Len() {
			v := values.Get(i)
			if v.Number() == 0 {
				continue
			}
			text, ok := words[string(v.Name())]
			require.True(t, ok, v.Name())
			require.NotEmpty(t, text.JA, v.Name())
			require.NotEmpty(t, text.EN, v.Name())
			require.False(t, hasJapanese(text.EN), v.Name())
		}
	}
}

func TestAllMessagesHaveBothLanguages(t *testing.T) {
	got := textf("会員 %s に「%s」", "member %s: %s", "tcb", word(pb.Reaction_REACTION_AFFECTED))
	require.Equal(t, Text{"会員 tcb に「該当する」", "member tcb: affected"}, got)
}

func TestChoicesAreReadAsTheyAreTyped(t *testing.T) {
	role, err := parseChoice[pb.Role]("role", " Port-Authority ")
	require.NoError(t, err)
	require.Equal(t, pb.Role_ROLE_PORT_AUTHORITY, role)
	for _, name := range choices(pb.EventType(0)) {
		event, err := parseChoice[pb.EventType]("event", name)
		require.NoError(t, err)
		require.NotZero(t, event)
	}
	_, err = parseChoice[pb.Reaction]("reaction", "unspecified")
	require.Equal(t, exitUsage, exitCode(err))
	require.ErrorContains(t, err, "seen, checking, affected, not_affected, handled")
}
