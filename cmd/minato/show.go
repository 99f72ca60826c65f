package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

func (a *app) showCommand() *cobra.Command {
	var parts, key string
	c := a.command("show ID [--parts DIR] [--key FILE]", about{
		short: Text{"報告を一件、全部表示します", "Show one report in full"},
		long: Text{"自分が出した報告なら、誰にどこまで届いたかも表示します。ID は先頭の 6 桁以上で足ります。",
			"For a report of your own it also shows who has it. The first 6 digits of the ID will do."},
		example: "minato show 3f2a9c1e --parts /tmp/parts",
	}, a.exactly("ID"), func(c *cobra.Command, args []string) error {
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			var answer *pb.GetReportResponse
			var err error
			if c.Flags().Changed("key") {
				answer, err = a.openSealed(ctx, n, args[0], key)
			} else {
				answer, err = n.GetReport(ctx, &pb.GetReportRequest{Report: args[0]})
			}
			if err != nil {
				return err
			}
			if c.Flags().Changed("parts") && c.Flags().Changed("key") && len(partsOf(answer.GetReport())) > 0 {
				return usage(Text{"--key で開いた報告の添付は、ここでは取り出せません", "the parts of a report that --key opens cannot be taken out here"},
					Text{"添付が要る時は、ノードが鍵を預かる人に送ってもらってください (minato forward)", "when they are needed, have it sent to a person whose key the node keeps (minato forward)"})
			}
			if c.Flags().Changed("parts") {
				if err := a.saveParts(c.Context(), n, answer.GetReport(), parts); err != nil {
					return err
				}
			}
			if a.json {
				return a.emit(answer)
			}
			return a.printReport(answer)
		})
	})
	c.Flags().StringVar(&parts, "parts", "", a.t("添付とSTIXを書き出す`フォルダー` (上書きしない)", "`folder` for attachments and STIX (nothing is overwritten)"))
	c.Flags().StringVar(&key, "key", "", a.t("本人の鍵の`ファイル`で、封をした報告を開く", "open a sealed report with the key `file` of the person"))
	return c
}

func (a *app) printReport(answer *pb.GetReportResponse) error {
	r := answer.GetReport()
	if answer.GetReceived().GetSealed() {
		return a.printSealed(answer.GetReceived())
	}
	title := r.GetTitle()
	if in := answer.GetReceived(); in != nil {
		title = a.titleOf(in, or(title, in.GetTitle()))
	}
	if err := a.say(a.chip(labelInForce(answer)) + " " + a.titled(r.GetLane(), title)); err != nil {
		return err
	}
	if err := a.facts(append(a.headFacts(answer), a.contentFacts(r)...)); err != nil {
		return err
	}
	sections := []struct {
		name Text
		text string
	}{
		{Text{"概要", "summary"}, r.GetSummary()},
		{Text{"攻撃技術情報", "technique"}, r.GetAttackTechnical().GetText()},
		{Text{"対応", "response"}, r.GetResponse()},
		{Text{"関係機関の応急対応", "response of others"}, r.GetOthersResponse()},
	}
	for _, s := range sections {
		if strings.TrimSpace(s.text) == "" {
			continue
		}
		if err := a.say("\n" + s.name.in(a.lang) + "\n" + plainText(s.text, "  ")); err != nil {
			return err
		}
	}
	if len(r.GetAttackTechnical().GetIndicators())+len(partsOf(r)) > 0 {
		if err := a.say(""); err != nil {
			return err
		}
	}
	for _, i := range r.GetAttackTechnical().GetIndicators() {
		if err := a.say(a.t("指標  ", "indicator  ") + defang(i.GetValue()) + "  " + plain(i.GetDescription())); err != nil {
			return err
		}
	}
	for _, p := range partsOf(r) {
		if err := a.say(fmt.Sprintf(a.t("添付  %s  %s  %d バイト  SHA-256 %x", "part  %s  %s  %d bytes  SHA-256 %x"),
			plain(or(p.GetName(), "-")), mediaWord(p.GetMediaType()), p.GetSize(), p.GetDigest())); err != nil {
			return err
		}
	}
	if err := a.printTasks(answer.GetReceived()); err != nil {
		return err
	}
	return a.printPublished(answer)
}

// labelInForce is the label that holds now: that of the report, made stricter
// by what it quotes, by its source later or by this node.
func labelInForce(answer *pb.GetReportResponse) string {
	if in := answer.GetReceived(); in.GetTlp() != "" {
		return in.GetTlp()
	}
	return tlp.Label(max(answer.GetReport().GetTlp(), answer.GetPublished().GetPlan().GetHandling().GetTlp())).String()
}

// printSealed says what is known of a report that only a person can open.
func (a *app) printSealed(in *pb.InboxItem) error {
	if err := a.say(a.chip(in.GetTlp()) + " " + a.titled(in.GetLane(), "") + a.sealedFor(in)); err != nil {
		return err
	}
	rows := [][2]string{
		{a.t("報告", "report"), plain(in.GetReport())},
		{a.t("事案", "case"), plain(in.GetCase()) + "  " + a.number(in.GetSeq(), in.GetStage())},
	}
	if err := a.facts(append(rows, a.receivedFacts(in, nil)...)); err != nil {
		return err
	}
	return a.printTasks(in)
}

// sealedFor says with whose key a report opens.
func (a *app) sealedFor(in *pb.InboxItem) string {
	return textf("宛: %s さん本人の鍵で開きます: minato show %s --key FILE", "for %s, opened with that person's own key: minato show %s --key FILE",
		plain(strings.Join(in.GetPersons(), ", ")), shortID(in.GetReport())).in(a.lang)
}

// printTasks says what this organisation has to do with a report.
func (a *app) printTasks(in *pb.InboxItem) error {
	if len(in.GetTasks()) == 0 {
		return nil
	}
	if err := a.sayText(Text{"\nあなたの組織の次の仕事", "\nWhat your organisation has to do"}); err != nil {
		return err
	}
	label, _, _ := tlp.Parse(in.GetTlp())
	held := &pb.Plan{Handling: &pb.Handling{Tlp: pb.TlpLabel(label)}}
	for _, s := range in.GetTasks() {
		if err := a.printStep(s, Text{"渡す", "to pass on"}); err != nil {
			return err
		}
		for _, next := range a.nextOf(s, held, in.GetReport()) {
			if err := a.say("    " + next.in(a.lang)); err != nil {
				return err
			}
		}
	}
	return nil
}

// headFacts say where a report stands, where it comes from and how it must be
// handled.
func (a *app) headFacts(answer *pb.GetReportResponse) [][2]string {
	r, in, out := answer.GetReport(), answer.GetReceived(), answer.GetPublished()
	rows := [][2]string{
		{a.t("報告", "report"), plain(r.GetReportId())},
		{a.t("事案", "case"), plain(r.GetCaseId()) + "  " + a.number(r.GetSequence(), r.GetStage())},
	}
	if r.GetKind() != pb.Kind_KIND_UNSPECIFIED {
		rows = append(rows, [2]string{a.t("種類", "kind"), word(r.GetKind()).in(a.lang)})
	}
	if in != nil {
		rows = append(rows, a.receivedFacts(in, r)...)
	}
	if out != nil {
		rows = append(rows,
			[2]string{a.t("状態", "state"), word(out.GetState()).in(a.lang)},
			[2]string{a.t("発出", "published"), a.moment(out.GetPublishTime())})
		if out.GetAcceptTime() != nil {
			rows = append(rows, [2]string{a.t("受付", "accepted"), a.moment(out.GetAcceptTime())})
		}
	}
	if r.GetCommunityId() != "" {
		rows = append(rows, [2]string{a.t("コミュニティ", "community"), plain(r.GetCommunityId())})
	}
	if in == nil {
		h := out.GetPlan().GetHandling()
		if h == nil {
			h = &pb.Handling{Restrictions: r.GetRestrictions(), SecrecyRegime: r.GetSecrecyRegime()}
		}
		rows = append(rows, [2]string{a.t("取扱制限", "handling"), a.bound(h.GetRestrictions(), h.GetSecrecyRegime())})
	}
	return append(rows,
		[2]string{a.t("転送の許可", "may pass on"), a.onward(r.GetOnwardPermissions())},
		[2]string{a.t("引用元", "derived from"), shortIDs(either(r.GetDerivedFrom(), in.GetDerivedFrom()))},
		[2]string{a.t("ラベルを変える", "relabels"), shortID(r.GetRelabels())})
}

// receivedFacts say how a report came and what holds for this copy. r is nil
// when nobody here can open it.
func (a *app) receivedFacts(in *pb.InboxItem, r *pb.Report) [][2]string {
	rows := [][2]string{
		{a.t("情報連絡元", "source"), a.sourceOf(in, a.t("発信元は示されていません", "the copy does not name its source"))},
		{a.t("署名", "signed"), a.signedBy(in)},
		{a.t("転送した会員", "forwarded by"), plain(in.GetForwardedBy())},
		{a.t("受付", "accepted"), a.moment(in.GetAcceptTime())},
	}
	if in.GetReaction() != 0 {
		rows = append(rows, [2]string{a.t("応答", "answer"), word(in.GetReaction()).in(a.lang)})
	}
	rows = append(rows, [2]string{a.t("読める人", "for"), plain(strings.Join(in.GetPersons(), ", "))})
	if own := tlp.Label(r.GetTlp()).String(); r != nil && in.GetTlp() != "" && own != in.GetTlp() {
		rows = append(rows, [2]string{a.t("報告時のラベル", "label when sent"), own})
	}
	return append(rows,
		[2]string{a.t("取扱制限", "handling"), a.bound(in.GetRestrictions(), in.GetSecrecyRegime())},
		[2]string{a.t("この写しに含まれない項目", "not in this copy"), a.fieldList(in.GetWithheld())})
}

// signedBy says what a copy rests on when it is not the signature of a source
// that the directory lists.
func (a *app) signedBy(in *pb.InboxItem) string {
	switch {
	case in.GetHubSigned():
		return a.t("この写しはハブが作り署名したものです。発信元の署名はなく、発信元と内容はハブの言うとおりに示しています。",
			"The hub has built and signed this copy, not its source. What it says of source and content is the hub's word.")
	case in.GetSourceUnlisted():
		return a.t("発信元は会員名簿にありません。署名鍵を名簿と照らし合わせられないため、急ぐ判断の前に電話で確かめてください。",
			"The directory does not list the source, so nothing vouches for the key of the signature. Telephone before you act on it.")
	}
	return ""
}

// sourceOf names the source, or says that the copy does not.
func (a *app) sourceOf(in *pb.InboxItem, nobody string) string {
	return plain(or(or(in.GetSourceName(), in.GetSource()), nobody))
}

// titleOf is the title, or why there is none.
func (a *app) titleOf(in *pb.InboxItem, title string) string {
	if end := in.GetRestrictions().GetExpireTime(); title == "" && end != nil && !time.Now().Before(end.AsTime()) {
		return a.t("(期限を過ぎたため表示しません)", "(expired, shown no more)")
	}
	if title == "" && slices.Contains(in.GetWithheld(), "title") {
		return a.t("(件名はこの写しに含まれません)", "(this copy has no title)")
	}
	return title
}

func shortIDs(ids []string) string {
	var short []string
	for _, id := range ids {
		short = append(short, shortID(id))
	}
	return strings.Join(short, ", ")
}

func either(list, other []string) []string {
	if len(list) == 0 {
		return other
	}
	return list
}

// contentFacts are what is known of the event. What the reporter does not know
// is left out.
func (a *app) contentFacts(r *pb.Report) [][2]string {
	var events []string
	for _, e := range r.GetEvent().GetTypes() {
		if e != pb.EventType_EVENT_TYPE_UNKNOWN {
			events = append(events, word(e).in(a.lang))
		}
	}
	var rows [][2]string
	add := func(name Text, known bool, value string) {
		if known {
			rows = append(rows, [2]string{name.in(a.lang), value})
		}
	}
	add(Text{"発生", "occurred"}, r.GetOccurred().GetTime() != nil, a.moment(r.GetOccurred().GetTime())+a.sure(r.GetOccurred().GetCertainty()))
	add(Text{"認知", "recognised"}, r.GetRecognised().GetTime() != nil, a.moment(r.GetRecognised().GetTime())+a.sure(r.GetRecognised().GetCertainty()))
	add(Text{"場所", "place"}, true, plain(strings.TrimSpace(r.GetPlace().GetPort()+" "+r.GetPlace().GetTerminal())))
	add(Text{"事象", "event"}, len(events) > 0, strings.Join(events, ", ")+a.sure(r.GetEvent().GetCertainty()))
	cause := r.GetCause().GetClass()
	add(Text{"原因", "cause"}, cause != 0 && cause != pb.CauseClass_CAUSE_CLASS_UNKNOWN, word(cause).in(a.lang)+a.sure(r.GetCause().GetCertainty()))
	impact := r.GetImpact().GetBusiness()
	add(Text{"業務への影響", "business"}, impact != 0 && impact != pb.BusinessImpact_BUSINESS_IMPACT_UNKNOWN, word(impact).in(a.lang)+a.sure(r.GetImpact().GetCertainty()))
	spread := r.GetSpread().GetRisk()
	add(Text{"拡大の可能性", "spread"}, spread != 0 && spread != pb.SpreadRisk_SPREAD_RISK_UNKNOWN, word(spread).in(a.lang)+a.sure(r.GetSpread().GetCertainty()))
	recovery := r.GetRecovery().GetState()
	add(Text{"復旧", "recovery"}, recovery != 0 && recovery != pb.RecoveryState_RECOVERY_STATE_UNKNOWN, word(recovery).in(a.lang)+a.sure(r.GetRecovery().GetCertainty()))
	personal := r.GetPersonalData()
	add(Text{"個人情報", "personal data"}, personal != 0 && personal != pb.PersonalData_PERSONAL_DATA_UNKNOWN, word(personal).in(a.lang))
	add(Text{"次報予定", "next report"}, r.GetNextReportTime() != nil, a.moment(r.GetNextReportTime()))
	add(Text{"組織", "organisation"}, true, plain(strings.TrimSpace(r.GetReporter().GetOrganisation()+" "+r.GetReporter().GetUnit())))
	for _, c := range r.GetReporter().GetContacts() {
		add(Text{"窓口", "contact"}, true, plain(strings.TrimSpace(c.GetName()+" "+c.GetPhone()+" "+c.GetMail())))
	}
	return rows
}

func (a *app) sure(c pb.Certainty) string {
	if c == pb.Certainty_CERTAINTY_UNSPECIFIED {
		return ""
	}
	return " (" + word(c).in(a.lang) + ")"
}

// printPublished says, for a report of one's own, how far each copy has come.
func (a *app) printPublished(answer *pb.GetReportResponse) error {
	out := answer.GetPublished()
	if out == nil {
		return nil
	}
	if out.GetState() == pb.OutboxState_OUTBOX_STATE_REFUSED {
		return a.say("\n" + strings.TrimRight(block(refused(out.GetRefusal()), a.lang), "\n"))
	}
	if out.GetDelayReason() != "" && out.GetState() == pb.OutboxState_OUTBOX_STATE_QUEUED {
		return a.sayText(textf("\nハブに届かない理由: %s", "\nwhy the hub was not reached: %s", reasonText(out.GetDelayReason())))
	}
	if answer.GetCopiesError() != "" {
		a.talk(textf("配信の状況は分かりません: %s", "how far the copies have come is not known: %s", reasonText(answer.GetCopiesError())))
	}
	l := a.list(a.t("会員", "member"), a.t("送信", "sent"), a.t("保存", "stored"), a.t("応答", "answered"), a.t("答え", "answer"), a.t("名称", "name"))
	for _, c := range answer.GetCopies() {
		reaction := word(c.GetReaction()).in(a.lang)
		if c.GetPerson() != "" {
			reaction += "(" + plain(c.GetPerson()) + ")"
		}
		if c.GetRejection() != "" {
			reaction = a.t("受け取れず: ", "rejected: ") + plain(c.GetRejection())
		}
		if err := l.add(plain(c.GetCopy().GetMember()), a.moment(c.GetSendTime()), a.moment(c.GetStoreTime()),
			a.moment(c.GetAcknowledgeTime()), reaction, plain(c.GetCopy().GetName())); err != nil {
			return err
		}
	}
	if err := l.end(); err != nil {
		return err
	}
	if err := a.printSteps(out.GetPlan(), out.GetReport()); err != nil {
		return err
	}
	return a.printOmissions(out.GetPlan().GetOmissions())
}

// partsOf are all parts of a report: its STIX bundle and its attachments.
func partsOf(r *pb.Report) []*pb.Part {
	var parts []*pb.Part
	if p := r.GetAttackTechnical().GetStixBundle(); p != nil {
		parts = append(parts, p)
	}
	return append(parts, r.GetAttachments()...)
}
