package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

const (
	reportID = "3f2a9c1e00000000000000000000aaaa"
	caseID   = "7b1d44e200000000000000000000bbbb"
)

func item(state pb.OutboxState) *pb.OutboxItem {
	return &pb.OutboxItem{Report: reportID, Case: caseID, Seq: 1, Tlp: "TLP:AMBER", State: state,
		Plan: &pb.Plan{Copies: []*pb.Copy{{Member: "port-authority", Name: "港湾管理者", Named: true,
			Grounds: []*pb.Ground{{Rule: "ADDRESSED", Basis: "TLP 2.0"}}}}}}
}

var amber = []string{"report", "--tlp", "amber", "--to", "port-authority", "--title", "TOSに不審な通信", "-m", "22日未明から"}

func TestLabelTitleAndOneSentenceAreEnough(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	code, out, _ := n.minato(amber...)
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "受領")
	require.Contains(t, out, "port-authority 港湾管理者")
	require.Contains(t, out, caseID)
	require.True(t, proto.Equal(&pb.Report{
		Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Title: "TOSに不審な通信", Summary: "22日未明から", Lane: pb.Lane_LANE_LIVE,
		Recipients: []*pb.Recipient{{Member: "port-authority"}},
	}, n.published), n.published)

	code, out, _ = n.minato(append(amber, "--lang", "en")...)
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "receipt")
	require.False(t, hasJapanese(strings.NewReplacer("TOSに不審な通信", "", "港湾管理者", "").Replace(out)), out)
}

func TestGreenWithoutACommunityIsRefusedBeforeItIsStored(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	code, _, errs := n.minato("report", "--tlp", "TLP:GREEN", "--title", "t", "-m", "m")
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, "--community")
	require.Nil(t, n.published)

	code, _, _ = n.minato("report", "--tlp", "green", "--community", "operators", "--title", "t", "-m", "m")
	require.Equal(t, exitDone, code)
	require.Equal(t, "operators", n.published.GetCommunityId())
}

func TestAQueuedReportIsSafeToLeave(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_QUEUED)
	n.outcome.DelayReason = "connection refused"
	code, out, errs := n.minato(amber...)
	require.Equal(t, exitQueued, code)
	require.Contains(t, out, reportID)
	require.Contains(t, errs, "この端末に保存しました")

	code, out, errs = n.minato(append(amber, "--json", "-q")...)
	require.Equal(t, exitQueued, code)
	require.Empty(t, errs)
	var got pb.OutboxItem
	require.NoError(t, protojson.Unmarshal([]byte(out), &got))
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_QUEUED, got.GetState())
	require.Equal(t, 1, strings.Count(out, "\n"), "one object a line")
}

func TestARefusalNamesEveryViolation(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_REFUSED)
	n.outcome.Refusal = &pb.RefusalInfo{Code: uint32(codes.FailedPrecondition), Reason: "RECIPIENT_OUTSIDE_LABEL", Violations: []*pb.ViolationInfo{
		{Field: "recipients[0]", Reason: "A", Japanese: "宛先が範囲の外です。", English: "The recipient is outside."},
		{Field: "community_id", Reason: "B", Japanese: "共有範囲が違います。", English: "The community is wrong."},
	}}
	code, _, errs := n.minato(amber...)
	require.Equal(t, exitRefused, code)
	require.Equal(t, "✗ recipients[0]: 宛先が範囲の外です。\n✗ community_id: 共有範囲が違います。\n", errs)

	n.outcome.Refusal.Code = uint32(codes.InvalidArgument)
	code, _, errs = n.minato(append(amber, "--lang", "en")...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "✗ community_id: The community is wrong.")
}

func TestWhatIsMissingIsNamedAtOnce(t *testing.T) {
	n := startNode(t)
	code, out, errs := n.minato("report", "--no-input")
	require.Equal(t, exitUsage, code)
	require.Empty(t, out)
	require.Contains(t, errs, "--tlp, --title, --text")
	require.Nil(t, n.published)
}

func TestALabelThatIsNoneIsRefusedWithASuggestion(t *testing.T) {
	n := startNode(t)
	code, _, errs := n.minato("report", "--tlp", "amber strict", "--title", "t", "-m", "m")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "TLP:AMBER+STRICT")

	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	code, _, errs = n.minato("report", "--tlp", "white", "--title", "t", "-m", "m")
	require.Equal(t, exitDone, code)
	require.Contains(t, errs, "TLP:CLEAR")
	require.Equal(t, pb.TlpLabel_TLP_LABEL_CLEAR, n.published.GetTlp())
}

func TestRedWithoutANamedPersonIsRefusedByPolicy(t *testing.T) {
	n := startNode(t)
	for _, to := range [][]string{nil, {"--to", "mlit"}} {
		code, _, errs := n.minato(append([]string{"report", "--tlp", "red", "--title", "t", "-m", "m"}, to...)...)
		require.Equal(t, exitRefused, code)
		require.Contains(t, errs, "minato members")
		require.Nil(t, n.published)
	}
}

func TestRecipientsAreMembersOrPersons(t *testing.T) {
	got, err := parseRecipients("to", []string{"mlit", "port-authority/ciso, police", "mlit"})
	require.NoError(t, err)
	require.Equal(t, []string{"mlit/", "port-authority/ciso", "police/"}, func() (s []string) {
		for _, r := range got {
			s = append(s, r.GetMember()+"/"+r.GetPerson())
		}
		return s
	}())
	for _, bad := range []string{"", "MLIT", "a/b/c", "a/", "/b", "港", "a b", "-x"} {
		_, err := parseRecipients("to", []string{bad})
		if bad == "-x" && err == nil {
			continue // internal/ca decides what an id is
		}
		require.Equal(t, exitUsage, exitCode(err), "%q", bad)
	}
}

func TestTextComesFromAFileOrStdin(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	file := filepath.Join(t.TempDir(), "memo.txt")
	require.NoError(t, os.WriteFile(file, []byte("\xef\xbb\xbf一行目\r\n二行目\r\n"), 0o600))
	code, _, errs := n.minato("report", "--tlp", "clear", "--title", "t", "--text", file)
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "一行目\n二行目", n.published.GetSummary())

	code, _, _ = typedIn(map[string]string{"MINATO_NODE": n.dir}, "標準入力から", "report", "--tlp", "clear", "--title", "t", "--text", "-")
	require.Equal(t, exitDone, code)
	require.Equal(t, "標準入力から", n.published.GetSummary())

	for _, in := range []string{"", "\x93\xfa\x96\x7b", "a\x00b", strings.Repeat("x", textLimit+1)} {
		n.published = nil
		code, _, errs := typedIn(map[string]string{"MINATO_NODE": n.dir}, in, "report", "--tlp", "clear", "--title", "t", "--text", "-")
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, "--text")
		require.Nil(t, n.published)
	}
	code, _, errs = n.minato("report", "--tlp", "clear", "--title", "t", "--text", "/no/such/file")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "ファイルがありません")
}

func TestAttachmentsAreStoredAndNamedWithoutTheirPath(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	dir := t.TempDir()
	file := filepath.Join(dir, "log.txt")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("x", pieceSize+1)), 0o600))
	code, _, errs := n.minato(append(amber, "--attach", file)...)
	require.Equal(t, exitDone, code, errs)
	part := n.published.GetAttachments()[0]
	require.Equal(t, "log.txt", part.GetName())
	require.Equal(t, uint64(pieceSize+1), part.GetSize())
	require.Equal(t, pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE, part.GetClass())
	require.Len(t, n.parts[string(part.GetDigest())], pieceSize+1)

	code, _, errs = n.minato(append(amber, "--attach-technical", file)...)
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE, n.published.GetAttachments()[0].GetClass())
	require.True(t, n.published.GetAttachments()[0].GetSanitised(), "its author has looked at it")

	n.stored, n.published, n.plan = 0, nil, item(0).Plan
	code, out, _ := n.minato(append(amber, "--attach", file, "--plan")...)
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "規則 ADDRESSED")
	require.Zero(t, n.stored, "a plan stores nothing")
	require.Nil(t, n.published)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "bad.json"), []byte(`{"type":"bundle","type":"x"}`), 0o600))
	code, _, errs = n.minato(append(amber, "--stix", filepath.Join(dir, "bad.json"))...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--stix")
	require.Zero(t, n.stored)
}

func TestFactsAreTypedInWords(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	code, _, _ := n.minato(append(amber, "--event", "malware", "--event", "code-exec", "--cause", "intentional", "--impact", "STOPPED")...)
	require.Equal(t, exitDone, code)
	require.Equal(t, []pb.EventType{pb.EventType_EVENT_TYPE_MALWARE, pb.EventType_EVENT_TYPE_CODE_EXEC}, n.published.GetEvent().GetTypes())
	require.Equal(t, pb.CauseClass_CAUSE_CLASS_INTENTIONAL, n.published.GetCause().GetClass())
	require.Equal(t, pb.BusinessImpact_BUSINESS_IMPACT_STOPPED, n.published.GetImpact().GetBusiness())

	code, _, errs := n.minato(append(amber, "--event", "flood")...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "near_miss")
}

func TestAWholeReportCanComeFromAFile(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	file := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"tlp":"TLP_LABEL_CLEAR","title":"t","summary":"s","lane":"LANE_EXERCISE","spread":{"risk":"SPREAD_RISK_ONGOING"}}`), 0o600))
	code, _, errs := n.minato("report", "--file", file, "--title", "flags win")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "flags win", n.published.GetTitle())
	require.Equal(t, pb.Lane_LANE_EXERCISE, n.published.GetLane())
	require.Equal(t, pb.SpreadRisk_SPREAD_RISK_ONGOING, n.published.GetSpread().GetRisk())

	require.NoError(t, os.WriteFile(file, []byte(`{"tlpp":1}`), 0o600))
	code, _, errs = n.minato("report", "--file", file)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "tlpp")
}

// amberCase is a case that was published here: an accepted first report and a
// refused second one.
func amberCase(n *fakeNode) *pb.Report {
	first := &pb.Report{
		ReportId: reportID, CaseId: caseID, Sequence: 1, Lane: pb.Lane_LANE_EXERCISE, Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Title: "件名", Summary: "概要",
		Recipients:   []*pb.Recipient{{Member: "mlit"}, {Member: "police"}},
		Restrictions: &pb.Restrictions{NoCopy: true},
		Event:        &pb.Event{Types: []pb.EventType{pb.EventType_EVENT_TYPE_MALWARE}},
	}
	refused := item(pb.OutboxState_OUTBOX_STATE_REFUSED)
	refused.Report, refused.Seq = "00000000000000000000000000000001", 2
	n.outbox = []*pb.OutboxItem{refused, item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)}
	n.reports[reportID] = &pb.GetReportResponse{Report: first}
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	return first
}

func TestALaterReportReachesTheSamePeopleUnlessToldOtherwise(t *testing.T) {
	n := startNode(t)
	first := amberCase(n)
	code, _, errs := n.minato("report", "update", caseID[:8], "-m", "復旧した", "--final")
	require.Equal(t, exitDone, code, errs)
	got := n.published
	require.Equal(t, pb.Stage_STAGE_FINAL, got.GetStage())
	require.Zero(t, got.GetSequence(), "the node numbers it")
	require.Equal(t, caseID, got.GetCaseId())
	require.Empty(t, got.GetReportId())
	require.Equal(t, first.GetLane(), got.GetLane())
	require.Equal(t, first.GetTlp(), got.GetTlp())
	require.Equal(t, "復旧した", got.GetSummary())
	require.Len(t, got.GetRecipients(), 2)
	require.True(t, got.GetRestrictions().GetNoCopy())
	require.Equal(t, first.GetEvent().GetTypes(), got.GetEvent().GetTypes())

	code, _, errs = n.minato("report", "update", reportID[:6], "-m", "x", "--to", "mlit", "--tlp", "amber+strict", "--correction", "--impact", "stopped")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, pb.Stage_STAGE_CORRECTION, n.published.GetStage())
	require.Len(t, n.published.GetRecipients(), 1)
	require.Equal(t, pb.TlpLabel_TLP_LABEL_AMBER_STRICT, n.published.GetTlp())
	require.Equal(t, pb.BusinessImpact_BUSINESS_IMPACT_STOPPED, n.published.GetImpact().GetBusiness())

	// Recipients of AMBER are organisations; RED must name persons anew.
	code, _, _ = n.minato("report", "update", caseID, "-m", "x", "--tlp", "red")
	require.Equal(t, exitRefused, code)
}

func TestACaseIsWithdrawnFromThoseWhoKnowOfIt(t *testing.T) {
	n := startNode(t)
	amberCase(n)
	code, _, errs := n.minato("report", "withdraw", caseID)
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, pb.Stage_STAGE_WITHDRAWAL, n.published.GetStage())
	require.Equal(t, "件名", n.published.GetTitle())
	require.NotEmpty(t, n.published.GetSummary())
	require.Len(t, n.published.GetRecipients(), 2)
}

func TestAnUnknownCaseIsNamed(t *testing.T) {
	n := startNode(t)
	amberCase(n)
	for _, name := range []string{"ffffff", "abc", "not-a-case"} {
		code, _, errs := n.minato("report", "update", name, "-m", "x")
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, "minato outbox")
	}
	n.outbox[0].Case = "7b1d44e2ffffffffffffffffffffffff"
	code, _, errs := n.minato("report", "update", "7b1d44e2", "-m", "x")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "2 件")
}

func TestAnExerciseCannotFollowUpARealCase(t *testing.T) {
	n := startNode(t)
	amberCase(n)
	args := []string{"report", "--case", caseID, "--tlp", "amber", "--to", "mlit", "--title", "t", "-m", "m"}
	code, _, errs := n.minato(args...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--exercise")
	code, out, _ := n.minato(append(args, "--exercise")...)
	require.Equal(t, exitDone, code)
	require.Equal(t, caseID, n.published.GetCaseId(), "the node gives number and stage")
	require.Contains(t, out, "【訓練】")
}

func TestOnlyWhatIsStoredCountsAsQueued(t *testing.T) {
	n := startNode(t)
	n.failure = status.Error(codes.Unavailable, "connection lost")
	code, _, errs := n.minato(amber...)
	require.Equal(t, exitFailed, code, "nobody knows whether it was stored")
	require.Contains(t, errs, "minato outbox")

	n.failure = rpc.Refuse(codes.Unavailable, "HUB_NOT_REACHED", "hub", "ハブに接続できません。", "The hub cannot be reached.").GRPCStatus().Err()
	code, _, errs = n.minato(append(amber, "--plan")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "ハブに接続できません。")
}

func TestTheFormOffersTheKindThatAMemberUsuallyReports(t *testing.T) {
	members := []*pb.Member{{Id: "tcb", Role: pb.Role_ROLE_OPERATOR}, {Id: "mlit", Role: pb.Role_ROLE_MINISTRY}, {Id: "isac", Role: pb.Role_ROLE_ISAC}}
	for own, want := range map[string]pb.Kind{
		"tcb": pb.Kind_KIND_INCIDENT, "mlit": pb.Kind_KIND_NOTICE, "isac": pb.Kind_KIND_NOTICE,
		"nobody": pb.Kind_KIND_INCIDENT, // not known yet: the careful one
	} {
		require.Equal(t, want, ownKind(members, own), own)
	}
}
