package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
)

// golden holds a screen against a reviewed file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "screen", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "read the change, then: go test ./cmd/minato -run %s -update", t.Name())
}

// attack is the decision about an attack on a terminal: the usual case.
func attack() *pb.Plan {
	ground := func(rule string, o pb.Obligation, basis string) *pb.Ground {
		return &pb.Ground{Rule: rule, Obligation: o, Basis: basis}
	}
	toBureau := &pb.Step{
		Ground: ground("R4", pb.Obligation_OBLIGATION_MUST, "港湾管理者は…地方整備局等の危機管理担当課へ情報共有を行う"), Act: pb.Act_ACT_TASK,
		Role: "regional_development", Members: []string{"chubu-seibi"}, Flow: pb.Flow_FLOW_AUTHORITY,
	}
	p := &pb.Plan{
		DirectoryRevision: 9, PolicyVersion: "2026-10-01",
		Handling: &pb.Handling{Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Restrictions: &pb.Restrictions{NoCopy: true}},
		Copies: []*pb.Copy{
			{Member: "chubu-unyu", Name: "中部運輸局", Named: true, Flow: pb.Flow_FLOW_AUTHORITY, Grounds: []*pb.Ground{
				ground("R2", pb.Obligation_OBLIGATION_MUST, "業務への影響が生じた場合、管轄される地域の地方運輸局等の港運担当課へ情報共有を行う")}},
			{Member: "port-authority", Name: "みなと港管理組合", Named: true, Flow: pb.Flow_FLOW_AUTHORITY, Tasks: []*pb.Step{toBureau}, Grounds: []*pb.Ground{
				ground("R3", pb.Obligation_OBLIGATION_MUST, "港湾内の状況把握の観点から、港湾管理者に対しても情報共有を行う"),
				ground("ADDRESSED", pb.Obligation_OBLIGATION_MAY, "TLP 2.0")}},
		},
		Steps: []*pb.Step{
			{Ground: ground("R1", pb.Obligation_OBLIGATION_MUST, "CISO 及び各情報セキュリティ担当者間で速やかに情報共有を行う"), Act: pb.Act_ACT_AUTO, Members: []string{"tcb"}},
			{Ground: ground("R5", pb.Obligation_OBLIGATION_MUST, "所轄の都道府県警察に通報を行うこと"), Act: pb.Act_ACT_PROMPT, Role: "police",
				Members: []string{"kenkei"}, Flow: pb.Flow_FLOW_AUTHORITY},
			{Ground: ground("R10", pb.Obligation_OBLIGATION_MAY, "必要に応じて所属するセプター内で共有する"), Act: pb.Act_ACT_PROMPT, Role: "operator,port_company",
				Members: []string{"terminal-b", "terminal-d"}, Flow: pb.Flow_FLOW_PEER},
			{Ground: ground("R15", pb.Obligation_OBLIGATION_MAY, "必要に応じて活用する"), Act: pb.Act_ACT_PROMPT, Role: "council"},
			{Ground: ground("R11", pb.Obligation_OBLIGATION_SHOULD, "専門組織に対して…攻撃技術情報を共有"), Act: pb.Act_ACT_PROMPT, Role: "expert", Flow: pb.Flow_FLOW_EXPERT},
			{Ground: ground("R21", pb.Obligation_OBLIGATION_LAW, "サイバー対処能力強化法 第5条"), Act: pb.Act_ACT_EXPORT, Role: "ministry", Members: []string{"mlit"},
				Form: "common-form", PreliminaryDueTime: timestamppb.New(time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC))},
		},
	}
	for _, m := range []string{"terminal-b", "terminal-c"} {
		p.Copies = append(p.Copies, &pb.Copy{Member: m, Name: "株式会社" + m, Flow: pb.Flow_FLOW_PEER, Grounds: []*pb.Ground{ground("ADDRESSED", pb.Obligation_OBLIGATION_MAY, "TLP 2.0")},
			Withheld: []string{"reporter", "title", "summary", "place", "impact", "response", "recovery", "personal_data"}, Generalised: []string{"occurred", "recognised"}})
	}
	for _, m := range []string{"isac", "council"} {
		p.Omissions = append(p.Omissions, &pb.Omission{Member: m, Name: m + "の名", Ground: ground("R16", pb.Obligation_OBLIGATION_MAY, "ISACとの共有"),
			Reason: "OUTSIDE_LABEL", Japanese: "TLP:AMBER の宛先に入っていません。宛先に加えれば届きます。", English: "Not among the recipients of TLP:AMBER. Address it to reach it."})
	}
	return p
}

func TestAPlanSaysOnOneScreenWhoGetsWhatAndWhy(t *testing.T) {
	n := startNode(t)
	n.plan = attack()
	for _, l := range []language{japanese, english} {
		code, out, errs := n.minato(append(amber, "--plan", "--lang", string(l))...)
		require.Equal(t, exitDone, code, errs)
		golden(t, "plan."+string(l)+".txt", out)
		require.LessOrEqual(t, strings.Count(out, "\n"), 40)
	}
	require.Nil(t, n.published)
}

func TestAfterSendingTheNextCommandsAreThere(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	n.outcome.Plan = attack()
	n.outcome.AcceptTime = timestamppb.New(time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC))
	for _, l := range []language{japanese, english} {
		code, out, errs := n.minato(append(amber, "--lang", string(l))...)
		require.Equal(t, exitDone, code, errs)
		golden(t, "sent."+string(l)+".txt", out)
		require.Contains(t, out, "minato forward 3f2a9c1e --to kenkei")
		require.Contains(t, out, "minato step 3f2a9c1e R5 --done|--planned|--declined")
	}
	n.outcome.Plan.Handling.Tlp = pb.TlpLabel_TLP_LABEL_RED
	_, out, _ := n.minato(amber...)
	require.Contains(t, out, "--to kenkei/人のID", "TLP:RED goes to persons")
}

func TestManyRecipientsTreatedAlikeStayOnOneScreen(t *testing.T) {
	n := startNode(t)
	n.plan = &pb.Plan{}
	var members []string
	for i := range 60 {
		id := "terminal-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		members = append(members, id)
		n.plan.Copies = append(n.plan.Copies, &pb.Copy{Member: id, Name: "長い名前の会社", Flow: pb.Flow_FLOW_PEER, Named: true,
			Grounds: []*pb.Ground{{Rule: "COMMUNITY", Basis: "TLP 2.0", Obligation: pb.Obligation_OBLIGATION_MAY}}})
	}
	code, out, _ := n.minato("report", "--tlp", "green", "--community", "c", "--title", "t", "-m", "m", "--plan")
	require.Equal(t, exitDone, code)
	lines := strings.Split(out, "\n")
	require.LessOrEqual(t, len(lines), 40)
	for _, line := range lines {
		require.LessOrEqual(t, lipgloss.Width(line), planWidth)
	}
	for _, m := range members {
		require.Contains(t, out, m)
	}
	require.Contains(t, out, "60 会員")
}

func TestAPlanSaysWhenTheLabelHasBecomeStricter(t *testing.T) {
	n := startNode(t)
	n.plan = attack()
	n.plan.Handling.Tlp = pb.TlpLabel_TLP_LABEL_AMBER_STRICT
	_, out, _ := n.minato(append(amber, "--plan")...)
	require.Contains(t, out, "引用した報告に合わせて TLP:AMBER+STRICT になります")
	require.Contains(t, out, "複製禁止")
}

func TestAPlanOfAttackersCannotSteerATerminal(t *testing.T) {
	n := startNode(t)
	n.plan = attack()
	evil := "\x1b[2J\nTLP:CLEAR\u202e"
	n.plan.Copies[0].Name, n.plan.Copies[0].Grounds[0].Basis = evil, evil
	n.plan.Copies[2].Withheld = []string{evil}
	n.plan.Steps[1].Role, n.plan.Steps[1].Members, n.plan.Steps[5].Form = evil, []string{evil}, evil
	n.plan.Omissions[0].Japanese, n.plan.PolicyVersion = evil, evil
	_, out, _ := n.minato(append(amber, "--plan")...)
	require.Equal(t, -1, strings.IndexFunc(strings.ReplaceAll(out, "\n", ""), unsafeRune), "%q", out)
	require.NotContains(t, out, "\nTLP:CLEAR")
}

func TestEveryFieldOfAReportHasAName(t *testing.T) {
	fields := (&pb.Report{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		text, ok := fieldNames[name]
		require.True(t, ok, name)
		require.True(t, hasJapanese(text.JA), name)
		require.False(t, hasJapanese(text.EN), name)
	}
	for path := range fieldNames {
		var in protoreflect.MessageDescriptor = (&pb.Report{}).ProtoReflect().Descriptor()
		for name := range strings.SplitSeq(path, ".") {
			f := in.Fields().ByName(protoreflect.Name(name))
			require.NotNil(t, f, path)
			in = f.Message()
		}
	}
	require.Equal(t, "攻撃対象システムの一部", fieldName("affected_systems[3].product").JA)
	require.Equal(t, Text{"x.y", "x.y"}, fieldName("x.y"))
	a := onTerminal(80)
	require.Equal(t, "件名, 概要, 添付のファイル名, x", a.fieldList([]string{"x", "attachments.name", "summary", "title", "reason", "consents.cabinet_share", "summary"}),
		"in the order of the report, without how it travels")
}

func TestAReportIsForwardedThroughTheSameGate(t *testing.T) {
	n := startNode(t)
	n.plan = &pb.Plan{Copies: []*pb.Copy{{Member: "client", Name: "顧客", ForwardedBy: "tcb", Flow: pb.Flow_FLOW_PEER, Grounds: []*pb.Ground{{Rule: "CLIENT", Basis: "TLP 2.0"}}}}}
	code, out, errs := n.minato("forward", reportID, "--to", "client", "--to", "police/desk", "--plan")
	require.Equal(t, exitDone, code, errs)
	require.True(t, n.forwarded.GetPreview())
	require.Len(t, n.forwarded.GetRecipients(), 2)
	require.Equal(t, "desk", n.forwarded.GetRecipients()[1].GetPerson())
	require.Contains(t, out, "client 顧客  tcb が転送  規則 CLIENT")
	require.Contains(t, errs, "まだ渡していません")
	code, _, _ = n.minato("forward", reportID, "--to", "client", "--person", "佐藤")
	require.Equal(t, exitDone, code)
	require.False(t, n.forwarded.GetPreview())
	require.Equal(t, "佐藤", n.forwarded.GetPerson())
	code, out, _ = n.minato("forward", reportID, "--to", "client", "--json")
	require.Equal(t, exitDone, code)
	require.NoError(t, protojson.Unmarshal([]byte(out), &pb.ForwardReportResponse{}))

	n.forwarded = nil
	code, _, errs = n.minato("forward", reportID)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--to")
	require.Nil(t, n.forwarded)
}

func TestAStepIsDecidedOnce(t *testing.T) {
	n := startNode(t)
	code, out, errs := n.minato("step", reportID, "R5", "--done", "--note", "14時に電話")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "3f2a9c1e の R5 を「済み」と記録しました\n", out)
	require.Equal(t, pb.NoticeState_NOTICE_STATE_DONE, n.decided.GetState())
	require.Equal(t, "14時に電話", n.decided.GetNote())
	n.decided = nil
	for _, args := range [][]string{{}, {"--done", "--declined"}, {"--done", "--note", strings.Repeat("x", 1001)}} {
		code, _, _ := n.minato(append([]string{"step", reportID, "R5"}, args...)...)
		require.Equal(t, exitUsage, code)
		require.Nil(t, n.decided)
	}
	code, _, errs = n.minato("step", reportID)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "RULE")
}

func TestAnExplanationNamesTheRule(t *testing.T) {
	n := startNode(t)
	p := attack()
	n.explanation = &pb.ExplainReportResponse{Copy: p.Copies[2], DirectoryRevision: 9, PolicyVersion: "2026-10-01"}
	code, out, errs := n.minato("explain", reportID, "terminal-b")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "terminal-b", n.explained.GetMember())
	require.Contains(t, out, "terminal-b に届いています")
	require.Contains(t, out, "規則 ADDRESSED 任意\n    TLP 2.0\n")
	require.Contains(t, out, "含まない項目: 情報連絡元・窓口, 件名")
	require.Contains(t, out, "名簿 第9版, 方針 2026-10-01")

	n.explanation = &pb.ExplainReportResponse{Omissions: p.Omissions[:1]}
	_, out, _ = n.minato("explain", reportID, "isac", "--lang", "en")
	require.Contains(t, out, "isac has no copy")
	require.Contains(t, out, "Not among the recipients of TLP:AMBER.")
	n.explanation = &pb.ExplainReportResponse{Omissions: []*pb.Omission{{Reason: "NOT_NAMED", Japanese: "宛先にない。", English: "Not addressed."}}}
	_, out, _ = n.minato("explain", reportID)
	require.NotContains(t, out, "規則")
	n.explanation = &pb.ExplainReportResponse{}
	_, out, _ = n.minato("explain", reportID)
	require.Contains(t, out, "どの規則もこの会員を挙げていません")
	require.Empty(t, n.explained.GetMember())
	code, _, _ = n.minato("explain", reportID, "a", "b")
	require.Equal(t, exitUsage, code)
}
