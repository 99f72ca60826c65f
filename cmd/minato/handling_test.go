package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

func TestHandlingConsentAndContentAreTypedInWords(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	n.reports["abcdef"] = &pb.GetReportResponse{Report: &pb.Report{ReportId: reportID}}
	code, _, errs := n.minato(append(amber, "--restrict", "no-copy", "--restrict", "NO_DISTRIBUTION", "--restrict", "chatham-house",
		"--restrict-text", "会議室のみ", "--expires", "2126-12-31", "--secrecy", "council",
		"--onward", "port_authority:regional_development", "--onward", "mlit:kenkei", "--derived-from", "ABCDEF",
		"--peer-named", "--expert-share", "--cabinet-share=false",
		"--system", "tos:NUTS:4.1", "--system", "gate", "--designated", "--reason", "legal", "--law", "act-art5", "--incident",
		"--technical", "VPN装置の脆弱性を突かれた")...)
	require.Equal(t, exitDone, code, errs)
	got := n.published
	require.True(t, proto.Equal(&pb.Restrictions{NoCopy: true, NoDistribution: true, ChathamHouse: true, Text: "会議室のみ",
		ExpireTime: timestamppb.New(time.Date(2126, 12, 31, 14, 59, 59, 0, time.UTC))}, got.GetRestrictions()), got.GetRestrictions())
	require.Equal(t, pb.SecrecyRegime_SECRECY_REGIME_COUNCIL_MEMBER, got.GetSecrecyRegime())
	require.Len(t, got.GetOnwardPermissions(), 2)
	require.Equal(t, "regional_development", got.GetOnwardPermissions()[0].GetTo())
	require.Equal(t, []string{reportID}, got.GetDerivedFrom(), "the whole id")
	require.True(t, proto.Equal(&pb.Consents{PeerNamed: true, ExpertShare: true}, got.GetConsents()), got.GetConsents())
	require.Equal(t, "NUTS", got.GetAffectedSystems()[0].GetProduct())
	require.Equal(t, "4.1", got.GetAffectedSystems()[0].GetVersion())
	require.True(t, got.GetAffectedSystems()[1].GetIsDesignatedComputer())
	require.Equal(t, pb.Reason_REASON_LEGAL_DUTY, got.GetReason())
	require.Equal(t, "act-art5", got.GetLegalBasis()[0].GetLawId())
	require.Equal(t, pb.Kind_KIND_INCIDENT, got.GetKind())
	require.Equal(t, "VPN装置の脆弱性を突かれた", got.GetAttackTechnical().GetText())

	file := filepath.Join(t.TempDir(), "technique.txt")
	require.NoError(t, os.WriteFile(file, []byte("手口\r\n二行目"), 0o600))
	code, _, errs = n.minato(append(amber, "--technical", "@"+file, "--notice")...)
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "手口\n二行目", n.published.GetAttackTechnical().GetText())
	require.Equal(t, pb.Kind_KIND_NOTICE, n.published.GetKind())
	require.Nil(t, n.published.GetConsents(), "unset means no")
}

func TestWhatCannotBeMeantIsRefusedBeforeItIsStored(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	for _, bad := range [][]string{
		{"--restrict", "secret"}, {"--expires", "2001-01-01"}, {"--expires", "soon"}, {"--expires", "-5h"}, {"--secrecy", "oath"},
		{"--onward", "mlit"}, {"--onward", "MLIT:police"}, {"--system", "toaster"}, {"--designated"}, {"--reason", "because"},
		{"--notice", "--incident"}, {"--technical", "@/no/such/file"},
	} {
		code, _, errs := n.minato(append(amber, bad...)...)
		require.Equal(t, exitUsage, code, bad)
		require.Contains(t, errs, bad[0])
		require.Contains(t, errs, "→")
		require.Nil(t, n.published)
	}
}

func TestATimeIsReadAsPeopleWriteIt(t *testing.T) {
	now := time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC)
	for typed, want := range map[string]time.Time{
		"2026-11-22":                time.Date(2026, 11, 22, 14, 59, 59, 0, time.UTC), // today is not over
		"2026-11-22 17:00":          time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC),
		"2026-11-22T17:00":          time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC),
		"2026-11-22T17:00:00+00:00": time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC),
		"30d":                       now.AddDate(0, 0, 30),
		"90m":                       now.Add(90 * time.Minute),
	} {
		got, err := parseWhen("expires", typed, now)
		require.NoError(t, err, typed)
		require.True(t, want.Equal(got), "%s: %s", typed, got)
	}
	for _, bad := range []string{"", "0d", "-1d", "1d2h", "2026-13-01", "30", "99999999999999d", "2026-11-22 09:00"} {
		_, err := parseWhen("expires", bad, now)
		require.Equal(t, exitUsage, exitCode(err), bad)
	}
}

func TestAReportWithoutALabelIsHeldAndItsAuthorAsked(t *testing.T) {
	n := startNode(t)
	n.outcome = item(pb.OutboxState_OUTBOX_STATE_ACCEPTED)
	attachment := filepath.Join(t.TempDir(), "log.txt")
	require.NoError(t, os.WriteFile(attachment, []byte("log"), 0o600))
	code, out, errs := n.minato("report", "--title", "無印", "-m", "本文", "--to", "mlit", "--attach", attachment)
	require.Equal(t, exitRefused, code)
	require.Empty(t, out)
	require.Nil(t, n.published)
	require.Len(t, n.drafts, 1)
	require.Equal(t, "本文", n.drafts[0].GetReport().GetSummary())
	require.Equal(t, 1, n.stored, "nothing is lost")
	id := n.drafts[0].GetDraft()
	require.Contains(t, errs, "下書き "+id[:8])
	require.Contains(t, errs, "→ minato report --from "+id[:8]+" --tlp amber\n")
	for _, l := range labels {
		ja, _ := l.Meaning()
		require.Contains(t, errs, l.String())
		require.Contains(t, errs, ja)
	}
	require.Len(t, labels, 5)

	// Still without a label it stays the same draft.
	code, _, _ = n.minato("report", "--from", id[:8], "-m", "別の本文")
	require.Equal(t, exitRefused, code)
	require.Len(t, n.drafts, 1)
	require.Equal(t, id, n.drafts[0].GetDraft())

	// The command that was shown works.
	code, _, errs = n.minato("report", "--from", id[:8], "--tlp", "amber")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "別の本文", n.published.GetSummary())
	require.Len(t, n.published.GetAttachments(), 1)
	require.Empty(t, n.drafts)
}

func TestAHeldReportIsDataForAProgram(t *testing.T) {
	n := startNode(t)
	code, out, errs := n.minato("report", "--title", "無印", "-m", "本文", "--json")
	require.Equal(t, exitRefused, code)
	require.Empty(t, errs)
	var got struct {
		Held, Reason, Next string
		Labels             []struct{ Label, Japanese, English string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, n.drafts[0].GetDraft(), got.Held)
	require.Equal(t, "TLP_MISSING", got.Reason)
	require.Contains(t, got.Next, "minato report --from "+got.Held)
	require.Len(t, got.Labels, 5)
	require.Equal(t, tlp.Red.String(), got.Labels[0].Label)
}

func TestOnlyAWholeReportIsHeldAndAPreviewNever(t *testing.T) {
	n := startNode(t)
	for _, args := range [][]string{{"--title", "無印"}, {"-m", "本文"}, {"--title", "無印", "-m", "本文", "--plan"}} {
		code, _, errs := n.minato(append([]string{"report"}, args...)...)
		require.Equal(t, exitUsage, code, args)
		require.Contains(t, errs, "--tlp")
		require.Empty(t, n.drafts)
	}
}

func TestALaterReportIsNeverLooserBecauseAFlagWasLeftOut(t *testing.T) {
	n := startNode(t)
	first := amberCase(n)
	first.Restrictions = &pb.Restrictions{NoCopy: true, Text: "会議室のみ", ExpireTime: timestamppb.New(time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC))}
	first.SecrecyRegime = pb.SecrecyRegime_SECRECY_REGIME_CONTRACT
	first.Kind = pb.Kind_KIND_NOTICE
	first.DerivedFrom = []string{caseID}
	first.OnwardPermissions = []*pb.OnwardPermission{{By: "mlit", To: "police"}}
	first.Consents = &pb.Consents{PeerNamed: true, PeerDamage: true}
	code, _, errs := n.minato("report", "update", caseID, "-m", "続き", "--restrict", "no-export", "--peer-damage=false", "--derived-from", reportID)
	require.Equal(t, exitDone, code, errs)
	got := n.published
	require.True(t, got.GetRestrictions().GetNoCopy())
	require.True(t, got.GetRestrictions().GetNoExport())
	require.Equal(t, "会議室のみ", got.GetRestrictions().GetText())
	require.NotNil(t, got.GetRestrictions().GetExpireTime())
	require.Equal(t, first.SecrecyRegime, got.GetSecrecyRegime())
	require.Equal(t, first.Kind, got.GetKind())
	require.ElementsMatch(t, []string{reportID, caseID}, got.GetDerivedFrom())
	require.Len(t, got.GetOnwardPermissions(), 1)
	require.True(t, got.GetConsents().GetPeerNamed())
	require.False(t, got.GetConsents().GetPeerDamage(), "a consent can be taken back")
}

func TestRelabellingWiderIsTheSourcesOwnAct(t *testing.T) {
	n := startNode(t)
	first := amberCase(n)
	first.AttackTechnical = &pb.AttackTechnical{Text: "手口"}
	args := []string{"report", "relabel", caseID[:8], "--tlp", "green", "--community", "operators"}
	code, _, errs := n.minato(args...)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, "--yes")
	require.Nil(t, n.published)

	code, out, _ := n.minato(append(args, "--plan")...)
	require.Equal(t, exitDone, code, "looking needs no consent")
	require.Contains(t, out, "TLP:GREEN")
	require.Nil(t, n.published)

	code, _, errs = n.minato(append(args, "--yes")...)
	require.Equal(t, exitDone, code, errs)
	want := proto.CloneOf(first)
	want.ReportId, want.Sequence, want.CreateTime, want.Relabels = "", 0, nil, reportID
	want.Stage, want.Tlp, want.CommunityId, want.Recipients = pb.Stage_STAGE_CORRECTION, pb.TlpLabel_TLP_LABEL_GREEN, "operators", nil
	require.True(t, proto.Equal(want, n.published), n.published)
}

func TestRelabellingNarrowerNeedsNoQuestion(t *testing.T) {
	n := startNode(t)
	first := amberCase(n)
	code, _, errs := n.minato("report", "relabel", reportID, "--tlp", "amber+strict")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, pb.TlpLabel_TLP_LABEL_AMBER_STRICT, n.published.GetTlp())
	require.Len(t, n.published.GetRecipients(), 2, "the same who have it")
	require.Equal(t, reportID, n.published.GetRelabels())
	require.Equal(t, first.GetSummary(), n.published.GetSummary())

	n.published = nil
	code, _, errs = n.minato("report", "relabel", reportID, "--tlp", "red")
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, "--to")
	code, _, errs = n.minato("report", "relabel", reportID, "--tlp", "amber")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "既に TLP:AMBER")
	code, _, _ = n.minato("report", "relabel", reportID)
	require.Equal(t, exitUsage, code)
	require.Nil(t, n.published)

	code, _, errs = n.minato("report", "relabel", reportID, "--tlp", "red", "--to", "mlit/ciso")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "ciso", n.published.GetRecipients()[0].GetPerson())

	// More recipients under the same label see more, too.
	code, _, _ = n.minato("report", "relabel", reportID, "--tlp", "amber", "--to", "kenkei")
	require.Equal(t, exitRefused, code)
}

func TestAHolderNarrowsOnItsOwnNode(t *testing.T) {
	n := startNode(t)
	code, out, errs := n.minato("narrow", reportID, "--tlp", "amber+strict")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, "3f2a9c1e をこの端末では TLP:AMBER+STRICT として扱います\n", out)
	require.Equal(t, pb.TlpLabel_TLP_LABEL_AMBER_STRICT, n.narrowed.GetTlp())
	code, _, _ = n.minato("narrow", reportID)
	require.Equal(t, exitUsage, code)
}

// bound is a nameless copy with every rule that can come with one.
func bound() *pb.InboxItem {
	in := arrived()
	in.Title, in.Source, in.SourceName, in.Named = "件名", "", "", false
	in.Restrictions = &pb.Restrictions{NoCopy: true, NoExport: true, NoDistribution: true, ChathamHouse: true, Text: "会議室のみ",
		ExpireTime: timestamppb.New(time.Date(2127, 1, 31, 8, 0, 0, 0, time.UTC))}
	in.SecrecyRegime = pb.SecrecyRegime_SECRECY_REGIME_COUNCIL_MEMBER
	in.Withheld = []string{"summary", "impact", "reporter"}
	in.Tasks = attack().GetCopies()[1].GetTasks()
	in.ForwardedBy, in.Tlp = "port-authority", "TLP:AMBER+STRICT"
	return in
}

func TestWhatBindsTheReaderIsShownWhereverTheReportIs(t *testing.T) {
	n := startNode(t)
	in := bound()
	n.inbox = []*pb.InboxItem{in}
	n.reports[reportID] = &pb.GetReportResponse{Received: in, Report: &pb.Report{
		ReportId: reportID, CaseId: caseID, Sequence: 1, Tlp: pb.TlpLabel_TLP_LABEL_AMBER, Title: "件名", Lane: pb.Lane_LANE_LIVE, Kind: pb.Kind_KIND_INCIDENT,
		DerivedFrom: []string{caseID}, OnwardPermissions: []*pb.OnwardPermission{{By: "port_authority", To: "chubu-seibi"}},
		AttackTechnical: &pb.AttackTechnical{Text: "手口"}}}
	var all strings.Builder
	for _, l := range []language{japanese, english} {
		for _, args := range [][]string{{"inbox"}, {"inbox", "--search", "件名"}, {"show", reportID}} {
			code, out, errs := n.minato(append(args, "--lang", string(l))...)
			require.Equal(t, exitDone, code, errs)
			all.WriteString("$ minato " + strings.Join(args, " ") + "\n" + out + "\n")
			for _, w := range restrictionWords {
				require.Contains(t, out, w.text.in(l), args)
			}
			require.Contains(t, out, "会議室のみ", args)
			require.Contains(t, out, "2127-01-31", args)
			require.Contains(t, out, word(in.GetSecrecyRegime()).in(l), args)
			require.Contains(t, out, "TLP:AMBER+STRICT", "the label in force")
		}
	}
	golden(t, "bound.txt", all.String())

	in.Title, in.Withheld = "", []string{"title", "summary"}
	_, out, _ := n.minato("inbox")
	require.Contains(t, out, "] (件名はこの写しに含まれません)\n")
	in.Restrictions.ExpireTime = timestamppb.New(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	_, out, _ = n.minato("inbox")
	require.Contains(t, out, "] (期限を過ぎたため表示しません)\n")

	code, out, _ := n.minato("inbox", "--json")
	require.Equal(t, exitDone, code)
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	for _, key := range []string{"report", "case", "seq", "tlp", "title", "text", "source", "restrictions", "withheld", "tasks", "sealed"} {
		require.Contains(t, got, key)
	}
}

func TestASealedReportSaysWhoseKeyOpensIt(t *testing.T) {
	n := startNode(t)
	in := arrived()
	in.Title, in.Text, in.Tlp, in.Sealed, in.Persons = "", "", "TLP:RED", true, []string{"sato"}
	in.Restrictions = &pb.Restrictions{NoCopy: true}
	n.inbox = []*pb.InboxItem{in}
	n.reports[reportID] = &pb.GetReportResponse{Received: in}
	_, out, _ := n.minato("inbox")
	require.Equal(t, "3f2a9c1e 第1報 TLP:RED 2026-11-22 10:00 名古屋東ターミナル  [複製禁止] 宛: sato さん本人の鍵で開きます: minato show 3f2a9c1e --key FILE\n", out)
	code, out, _ := n.minato("show", reportID)
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "TLP:RED 宛: sato さん本人の鍵で開きます: minato show 3f2a9c1e --key FILE\n")
	require.Contains(t, out, "複製禁止")
	_, out, _ = n.minato("show", reportID, "--lang", "en")
	require.Contains(t, out, "for sato, opened with that person's own key")
	require.NotContains(t, out, "概要")
}

func TestTheStatusIsLoudAboutKeysAndKindAboutContacts(t *testing.T) {
	n := startNode(t)
	n.status = &pb.GetStatusResponse{PortId: "nagoya", Member: "tcb", KeyFingerprint: "12345 67890", StaleDesks: []string{"情報システム課"}}
	code, out, errs := n.minato("status")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "12345 67890")
	require.Contains(t, errs, "情報システム課")
	require.Contains(t, errs, "minato node profile --verify-contacts")

	n.status.Warnings = []string{"届いたが受け付けず / came and was not taken"}
	_, _, errs = n.minato("status", "--lang", "en")
	require.Contains(t, errs, "⚠ came and was not taken\n")

	n.status.KeyAlarms = []string{"member tcb, node 1"}
	code, out, errs = n.minato("status")
	require.Equal(t, exitCheck, code)
	require.True(t, strings.HasPrefix(out, "⚠ 鍵の警告: member tcb, node 1\n"), out)
	require.Contains(t, errs, "TLP:RED")
	code, out, _ = n.minato("status", "--json")
	require.Equal(t, exitCheck, code)
	require.Contains(t, out, `"keyAlarms":["member tcb, node 1"]`)
}

func TestContactsAreConfirmedWithoutTypingThemAgain(t *testing.T) {
	n := startNode(t)
	n.recorded = true
	code, _, errs := n.minato("node", "profile", "--verify-contacts")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--contact")
	before := time.Now().Add(-365 * 24 * time.Hour)
	n.profile = &pb.Profile{Organisation: "東", Desks: []*pb.Desk{{Name: "情報課", VerifyTime: timestamppb.New(before), Contacts: []*pb.Contact{{Name: "山田", Phone: "1"}, {Name: "鈴木", Phone: "2"}}}}}
	code, out, errs := n.minato("node", "profile", "--verify-contacts")
	require.Equal(t, exitDone, code, errs)
	require.Contains(t, out, "確認")
	require.WithinDuration(t, time.Now(), n.profile.GetDesks()[0].GetVerifyTime().AsTime(), time.Minute)
	require.Len(t, n.profile.GetDesks()[0].GetContacts(), 2)
}

func TestOfficesShowThePortsTheyAreCompetentFor(t *testing.T) {
	n := startNode(t)
	n.members = []*pb.Member{
		{Id: "chubu", Name: "中部運輸局", Role: pb.Role_ROLE_REGIONAL_TRANSPORT, State: pb.MemberState_MEMBER_STATE_ACTIVE, Jurisdictions: []string{"nagoya", "tsu"}, Communities: []string{"nagoya"}},
		{Id: "cert", Name: "専門", Role: pb.Role_ROLE_EXPERT, State: pb.MemberState_MEMBER_STATE_ACTIVE, Nda: true, Communities: []string{"nagoya"}},
	}
	_, out, _ := n.minato("members")
	require.Equal(t, "chubu 地方運輸局等(nagoya,tsu) 参加中 - nagoya  中部運輸局\ncert 専門組織(秘密保持契約) 参加中 - nagoya  専門\n", out)
}
