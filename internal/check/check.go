// Package check finds what is wrong with a report in itself, before anybody
// decides who may have it. The hub checks what is submitted; where the hub is
// blind, the sending node checks before it seals and the receiving node after
// it has opened. It is pure.
package check

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// Limits bound what a report may carry, in bytes.
type Limits struct {
	Report int64 // encoded report
	Part   int64 // one part
	Parts  int64 // all parts of one report
}

// Report finds everything that is wrong with a report in itself, at once, so
// that a sender mends it in one go. What depends on the directory is the plan's.
func Report(r *pb.Report, lane pb.Lane, max Limits) []rpc.Violation {
	var bad []rpc.Violation
	bad = append(bad, Message("", r.ProtoReflect(), true)...)
	bad = append(bad, checkOutline(r.Outline(), lane)...)
	bad = append(bad, checkReporter(r.GetReporter())...)
	bad = append(bad, checkTimes(r)...)
	bad = append(bad, checkFacts(r)...)
	bad = append(bad, checkParts(r, max)...)
	if size := int64(proto.Size(r)); size > max.Report {
		bad = append(bad, Violation("report", "REPORT_TOO_LARGE",
			fmt.Sprintf("報告が %d バイトあり、上限 %d バイトを超えています。長い内容は --stix や --attach で添えてください。", size, max.Report),
			fmt.Sprintf("The report has %d bytes, more than the limit of %d. Send long content with --stix or --attach.", size, max.Report)))
	}
	return bad
}

// Outline finds everything that is wrong with the readable part of a sealed
// report.
func Outline(o *pb.Outline, lane pb.Lane) []rpc.Violation {
	bad := Message("outline", o.ProtoReflect(), false)
	for _, f := range []struct {
		field string
		there bool
	}{
		{"outline.report_id", o.GetReportId() != ""}, {"outline.case_id", o.GetCaseId() != ""},
		{"outline.sequence", o.GetSequence() != 0}, {"outline.stage", o.GetStage() != 0}, {"outline.lane", o.GetLane() != 0},
		{"tlp", o.GetTlp() != 0}, {"outline.secrecy_regime", o.GetSecrecyRegime() != 0},
		{"outline.create_time", o.GetCreateTime() != nil}, {"outline.retention_time", o.GetRetentionTime() != nil},
	} {
		if !f.there {
			bad = append(bad, Missing(f.field))
		}
	}
	return append(bad, checkOutline(o, lane)...)
}

// checkOutline holds what a report says about its handling.
func checkOutline(o *pb.Outline, lane pb.Lane) (bad []rpc.Violation) {
	bad = append(bad, checkLabel(o)...)
	bad = append(bad, checkCase(o, lane)...)
	return append(bad, checkHandling(o)...)
}

// Message walks a message's fields: unknown fields and enum values are
// refused, for what the gate does not understand it cannot judge; texts and
// lists are bounded; at the top, the fields that a first report must carry are
// there (guideline 2.1.3: the rest may be missing or uncertain).
func Message(path string, m protoreflect.Message, required bool) (bad []rpc.Violation) {
	if len(m.GetUnknown()) > 0 {
		bad = append(bad, Violation(orReport(path), "UNKNOWN_FIELD",
			"このハブが知らない項目が含まれています。ハブを更新するか、その項目を除いてください。",
			"The report has a field that this hub does not know. Update the hub or leave the field out."))
	}
	if m.Descriptor().FullName() == "google.protobuf.Timestamp" {
		if err := m.Interface().(*timestamppb.Timestamp).CheckValid(); err != nil {
			bad = append(bad, Violation(path, "TIME_INVALID", "時刻が正しくありません。", "The time is not valid."))
		}
		return bad
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := string(f.Name())
		if path != "" {
			name = path + "." + name
		}
		if required && proto.GetExtension(f.Options(), pb.E_FirstReport).(bool) && !m.Has(f) {
			bad = append(bad, Missing(name))
			continue
		}
		if m.Has(f) {
			bad = append(bad, checkField(name, f, m.Get(f), required)...)
		}
	}
	return bad
}

func checkField(name string, f protoreflect.FieldDescriptor, v protoreflect.Value, required bool) (bad []rpc.Violation) {
	if !f.IsList() {
		return checkValue(name, f, v, required)
	}
	list := v.List()
	if limit := listLimit(f); list.Len() > limit {
		return []rpc.Violation{Violation(name, "TOO_MANY",
			fmt.Sprintf("%d 件あり、上限 %d 件を超えています。", list.Len(), limit),
			fmt.Sprintf("There are %d entries, more than the limit of %d.", list.Len(), limit))}
	}
	for i := range list.Len() {
		bad = append(bad, checkValue(fmt.Sprintf("%s[%d]", name, i), f, list.Get(i), false)...)
	}
	return bad
}

func checkValue(name string, f protoreflect.FieldDescriptor, v protoreflect.Value, required bool) []rpc.Violation {
	switch f.Kind() {
	case protoreflect.EnumKind:
		known := f.Enum().Values().ByNumber(v.Enum()) != nil
		if !known || (f.IsList() && v.Enum() == 0) {
			return []rpc.Violation{Violation(name, "VALUE_UNKNOWN",
				fmt.Sprintf("値 %d は使えません。不明な場合は UNKNOWN を選んでください。", v.Enum()),
				fmt.Sprintf("Value %d is not known. Choose UNKNOWN where you do not know.", v.Enum()))}
		}
	case protoreflect.StringKind:
		return checkText(name, v.String(), textLimit(f))
	case protoreflect.MessageKind:
		return Message(name, v.Message(), required)
	}
	return nil
}

func checkText(name, s string, limit int) []rpc.Violation {
	if len(s) > limit {
		return []rpc.Violation{Violation(name, "TEXT_TOO_LONG",
			fmt.Sprintf("%d バイトあり、上限 %d バイトを超えています。短くするか、添付 (--attach) にしてください。", len(s), limit),
			fmt.Sprintf("The text has %d bytes, more than the limit of %d. Shorten it or attach it (--attach).", len(s), limit))}
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return []rpc.Violation{Violation(name, "TEXT_INVALID", "文字コードが正しくありません (UTF-8)。", "The text is not valid UTF-8.")}
	}
	return nil
}

// textLimit is the bound in bytes of a text field, as the contract states it.
func textLimit(f protoreflect.FieldDescriptor) int {
	switch fieldName(f) {
	case "Report.summary", "Report.response", "Report.others_response", "AttackTechnical.text", "Ransom.note", "Spread.text":
		return 256 << 10
	case "Indicator.value", "Publication.url":
		return 2048
	case "TimelineEntry.text":
		return 2000
	case "Report.title":
		return 300
	case "Part.name", "Desk.name":
		return 255
	case "Reporter.organisation", "Reporter.unit", "Contact.name", "Profile.organisation", "Person.name", "Person.title":
		return 200
	case "Part.media_type":
		return 100
	case "LegalBasis.law_id", "LegalBasis.article", "LegalBasis.form_id",
		"Report.report_id", "Report.case_id", "Report.community_id", "Report.derived_from", "Report.relabels",
		"OnwardPermission.by", "OnwardPermission.to",
		"Outline.report_id", "Outline.case_id", "Outline.community_id", "Outline.derived_from", "Outline.relabels", "Recipient.member", "Recipient.person":
		return 64
	}
	return 1000
}

// listLimit is the bound in entries of a list, as the contract states it.
func listLimit(f protoreflect.FieldDescriptor) int {
	switch fieldName(f) {
	case "AttackTechnical.indicators", "SealedReport.wraps", "Forward.wraps":
		return 5000
	case "Report.recipients", "Outline.recipients", "MemberSet.clients":
		return 1000
	case "Report.attack_timeline", "Report.response_timeline":
		return 500
	case "Profile.persons":
		return 200
	case "Report.attachments":
		return 64
	case "Report.onward_permissions", "Outline.onward_permissions", "Report.parallel_notices", "Report.derived_from", "Outline.derived_from":
		return 50
	case "Reporter.contacts", "Desk.contacts", "Report.legal_basis", "Outline.legal_basis", "Profile.desks":
		return 20
	}
	return 100
}

// fieldName names a field with its message, such as Report.title.
func fieldName(f protoreflect.FieldDescriptor) string {
	return string(f.Parent().Name()) + "." + string(f.Name())
}

// Label is a label of the contract; a number that is none permits nobody. A
// plain conversion would cut it to eight bits and could make a label of it.
func Label(l pb.TlpLabel) tlp.Label {
	if l >= 0 && l <= pb.TlpLabel_TLP_LABEL_RED {
		return tlp.Label(l)
	}
	return tlp.Unlabelled
}

// checkLabel holds the rules of FIRST TLP 2.0 that need no directory.
func checkLabel(o *pb.Outline) (bad []rpc.Violation) {
	label := Label(o.GetTlp())
	if !label.Valid() {
		return nil // a missing or unknown label has been found already
	}
	if label.NeedsCommunity() && o.GetCommunityId() == "" {
		bad = append(bad, Violation("community_id", "GREEN_NEEDS_COMMUNITY",
			"TLP:GREEN には共有範囲の指定が必要です (--community ID)。港全体なら港の ID を指定してください。",
			"TLP:GREEN needs a community (--community ID). For the whole port give the port's id."))
	}
	if !label.NeedsCommunity() && o.GetCommunityId() != "" {
		bad = append(bad, Violation("community_id", "COMMUNITY_ONLY_FOR_GREEN",
			fmt.Sprintf("共有範囲 (--community) は TLP:GREEN のときだけ指定できます。%s では宛先 (--to) を使ってください。", label),
			fmt.Sprintf("A community (--community) goes with TLP:GREEN only. With %s use recipients (--to).", label)))
	}
	if label.NeedsPersons() && len(o.GetRecipients()) == 0 {
		bad = append(bad, Violation("recipients", "RECIPIENTS_MISSING",
			fmt.Sprintf("%s には宛先の指定が必要です (--to 会員ID)。会員一覧: minato members", label),
			fmt.Sprintf("%s needs recipients (--to MEMBER). See: minato members", label)))
	}
	seen := map[string]bool{}
	for i, to := range o.GetRecipients() {
		field := fmt.Sprintf("recipients[%d]", i)
		key := to.GetMember() + "/" + to.GetPerson()
		switch {
		case to.GetMember() == "":
			bad = append(bad, Missing(field+".member"))
		case label.NeedsPersons() && to.GetPerson() == "":
			bad = append(bad, Violation(field, "RED_NEEDS_PERSONS",
				fmt.Sprintf("TLP:RED は名指しした人だけに送ります。%q の担当者を --to %s/担当者ID の形で指定してください。", to.GetMember(), to.GetMember()),
				fmt.Sprintf("TLP:RED goes to named persons only. Name one of %q: --to %s/PERSON", to.GetMember(), to.GetMember())))
		case !label.NeedsPersons() && to.GetPerson() != "":
			bad = append(bad, Violation(field, "PERSONS_ONLY_FOR_RED",
				fmt.Sprintf("担当者の名指しは TLP:RED のときだけです。%s では --to %s としてください。", label, to.GetMember()),
				fmt.Sprintf("Persons are named with TLP:RED only. With %s write --to %s", label, to.GetMember())))
		case seen[key]:
			bad = append(bad, Violation(field, "RECIPIENT_TWICE",
				fmt.Sprintf("宛先 %q が重複しています。一つにしてください。", strings.TrimSuffix(key, "/")),
				fmt.Sprintf("Recipient %q is named twice. Leave one.", strings.TrimSuffix(key, "/"))))
		}
		seen[key] = true
	}
	return bad
}

// checkCase holds what ids, stage, reason and route must agree on.
func checkCase(o *pb.Outline, lane pb.Lane) (bad []rpc.Violation) {
	for _, f := range []struct{ field, id string }{{"report_id", o.GetReportId()}, {"case_id", o.GetCaseId()}} {
		if f.id != "" && !ID(f.id) {
			bad = append(bad, idInvalid(f.field))
		}
	}
	if o.GetLane() != pb.Lane_LANE_UNSPECIFIED && o.GetLane() != lane {
		bad = append(bad, Violation("lane", "LANE_MISMATCH",
			"訓練と実の区分が署名の種類と一致しません。", "Live or exercise does not agree with the signed payload type."))
	}
	first := o.GetStage() == pb.Stage_STAGE_PRELIMINARY
	later := o.GetStage() == pb.Stage_STAGE_FOLLOW_UP || o.GetStage() == pb.Stage_STAGE_CORRECTION || o.GetStage() == pb.Stage_STAGE_WITHDRAWAL
	if seq := o.GetSequence(); (first && seq > 1) || (later && seq == 1) {
		bad = append(bad, Violation("stage", "STAGE_MISMATCH",
			fmt.Sprintf("第%d報と報の区分 %s が合いません。第1報は PRELIMINARY、続報は FOLLOW_UP です。", seq, o.GetStage()),
			fmt.Sprintf("Report number %d of a case cannot be %s. The first is PRELIMINARY, later ones FOLLOW_UP.", seq, o.GetStage())))
	}
	if o.Says(pb.Fact_FACT_LEGAL_DUTY) && len(o.GetLegalBasis()) == 0 {
		bad = append(bad, Violation("legal_basis", "LEGAL_BASIS_MISSING",
			"法令による報告のときは根拠法令を示してください。", "A report made by legal duty must name the law."))
	}
	if o.Says(pb.Fact_FACT_SECRETARIAT_ANON) || o.Says(pb.Fact_FACT_SECRETARIAT_NAMED) {
		bad = append(bad, Violation("route_choice", "ROUTE_NOT_OFFERED",
			"このハブはセプター事務局経由の報告を受け付けていません。直接 (DIRECT) を選ぶか、事務局へ電話で相談してください。",
			"This hub does not take reports by way of the secretariat. Choose DIRECT, or telephone the secretariat."))
	}
	return bad
}

// checkHandling holds the rules beside the label.
func checkHandling(o *pb.Outline) (bad []rpc.Violation) {
	for i, id := range o.GetDerivedFrom() {
		if !ID(id) {
			bad = append(bad, idInvalid(fmt.Sprintf("derived_from[%d]", i)))
		}
	}
	if id := o.GetRelabels(); id != "" && (!ID(id) || id == o.GetReportId()) {
		bad = append(bad, idInvalid("relabels"))
	}
	for i, p := range o.GetOnwardPermissions() {
		if p.GetBy() == "" || p.GetTo() == "" {
			bad = append(bad, Violation(fmt.Sprintf("onward_permissions[%d]", i), "PERMISSION_INCOMPLETE",
				"転送の許可には、だれが (by) だれへ (to) の両方が必要です。", "A permission to pass on needs both by and to."))
		}
	}
	if o.GetRetentionTime() != nil && o.GetCreateTime() != nil && !o.GetRetentionTime().AsTime().After(o.GetCreateTime().AsTime()) {
		bad = append(bad, Violation("retention_time", "RETENTION_PAST",
			"保存期間の終わりが作成時刻より前です。", "The retention time lies before the report was made."))
	}
	if e := o.GetRestrictions().GetExpireTime(); e != nil && o.GetCreateTime() != nil && e.AsTime().Before(o.GetCreateTime().AsTime().Add(time.Minute)) {
		bad = append(bad, Violation("restrictions.expire_time", "EXPIRY_PAST",
			"有効期限が過ぎています。", "The expiry lies in the past."))
	}
	return bad
}

// ID reports whether s is 32 lower-case hexadecimal digits.
func ID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 16 && strings.ToLower(s) == s
}

func idInvalid(field string) rpc.Violation {
	return Violation(field, "ID_INVALID", "ID は小文字16進数32桁です。", "The id must be 32 lower-case hexadecimal digits.")
}

// checkReporter wants two contacts or more, since one person may be away
// (guideline 2.1.3, 窓口の複数名).
func checkReporter(r *pb.Reporter) (bad []rpc.Violation) {
	if r == nil {
		return nil
	}
	if n := len(r.GetContacts()); n == 1 {
		bad = append(bad, Violation("reporter.contacts", "CONTACTS_TOO_FEW",
			"窓口は2名以上を登録してください: minato node profile --contact \"氏名,電話,メール\" を2回指定します。",
			"Give two contacts or more: minato node profile with --contact \"NAME,PHONE,MAIL\" twice."))
	}
	for i, c := range r.GetContacts() {
		if c.GetName() == "" || (c.GetPhone() == "" && c.GetMail() == "") {
			bad = append(bad, Violation(fmt.Sprintf("reporter.contacts[%d]", i), "CONTACT_INCOMPLETE",
				"窓口には氏名と、電話かメールの少なくとも一方が必要です。",
				"A contact needs a name and at least a telephone number or a mail address."))
		}
	}
	return bad
}

// checkTimes wants a time wherever the certainty does not say UNKNOWN.
func checkTimes(r *pb.Report) (bad []rpc.Violation) {
	for _, f := range []struct {
		field  string
		moment *pb.Moment
	}{{"occurred", r.GetOccurred()}, {"recognised", r.GetRecognised()}} {
		if m := f.moment; m != nil && m.GetTime() == nil && m.GetCertainty() != pb.Certainty_CERTAINTY_UNKNOWN {
			bad = append(bad, Violation(f.field, "TIME_MISSING",
				"時刻を書くか、確度を UNKNOWN としてください。", "Give a time or set the certainty to UNKNOWN."))
		}
	}
	return bad
}

// checkFacts holds what the contract refuses within lists and ratings.
func checkFacts(r *pb.Report) (bad []rpc.Violation) {
	c := r.GetClassification()
	if max(c.GetConfidentiality(), c.GetIntegrity(), c.GetAvailability()) > 3 {
		bad = append(bad, Violation("classification", "LEVEL_UNKNOWN",
			"格付けは 0 (なし) から 3 までです。", "A classification is 0 (not rated) to 3."))
	}
	for i, system := range r.GetAffectedSystems() {
		if system.GetKind() == pb.SystemKind_SYSTEM_KIND_UNSPECIFIED {
			bad = append(bad, Missing(fmt.Sprintf("affected_systems[%d].kind", i)))
		}
	}
	for i, indicator := range r.GetAttackTechnical().GetIndicators() {
		field := fmt.Sprintf("attack_technical.indicators[%d]", i)
		if indicator.GetType() == pb.IndicatorType_INDICATOR_TYPE_UNSPECIFIED {
			bad = append(bad, Missing(field+".type"))
		}
		if indicator.GetValue() == "" {
			bad = append(bad, Missing(field+".value"))
		}
	}
	return bad
}

// checkParts holds the descriptions of the bundle and the attachments.
func checkParts(r *pb.Report, max Limits) (bad []rpc.Violation) {
	if b := r.GetAttackTechnical().GetStixBundle(); b != nil {
		bad = append(bad, Part("attack_technical.stix_bundle", b, max)...)
	}
	for i, p := range r.GetAttachments() {
		bad = append(bad, Part(fmt.Sprintf("attachments[%d]", i), p, max)...)
	}
	return append(bad, Parts(r.Parts(), max)...)
}

// Parts checks the parts of one report together: none twice, not too much.
func Parts(parts []*pb.Part, max Limits) (bad []rpc.Violation) {
	var total uint64
	seen := map[string]bool{}
	for _, p := range parts {
		total += min(p.GetSize(), uint64(max.Parts)+1) // no overflow: a part list is bounded
		if seen[string(p.GetDigest())] {
			bad = append(bad, Violation("attachments", "PART_TWICE", "同じ添付が二度あります。一つにしてください。", "The same part is there twice. Leave one."))
		}
		seen[string(p.GetDigest())] = true
	}
	if total > uint64(max.Parts) {
		bad = append(bad, Violation("attachments", "PARTS_TOO_LARGE",
			fmt.Sprintf("添付の合計が上限 %d バイトを超えています。分けて送ってください。", max.Parts),
			fmt.Sprintf("The parts together exceed the limit of %d bytes. Send them in several reports.", max.Parts)))
	}
	return bad
}

// Part checks the description of one part.
func Part(field string, p *pb.Part, max Limits) (bad []rpc.Violation) {
	if len(p.GetDigest()) != 32 {
		bad = append(bad, Violation(field+".digest", "DIGEST_INVALID", "SHA-256 (32バイト) が必要です。", "A SHA-256 of 32 bytes is needed."))
	}
	if p.GetSize() == 0 {
		bad = append(bad, Violation(field, "PART_EMPTY", "空のファイルは送れません。", "An empty file cannot be sent."))
	}
	if p.GetSize() > uint64(max.Part) {
		bad = append(bad, Violation(field, "PART_TOO_LARGE",
			fmt.Sprintf("%d バイトあり、1件の上限 %d バイトを超えています。", p.GetSize(), max.Part),
			fmt.Sprintf("The part has %d bytes, more than the limit of %d.", p.GetSize(), max.Part)))
	}
	if p.GetClass() == pb.DisclosureClass_DISCLOSURE_CLASS_UNSPECIFIED {
		bad = append(bad, Missing(field+".class"))
	}
	if strings.ContainsAny(p.GetName(), "/\\") {
		bad = append(bad, Violation(field+".name", "NAME_INVALID", "ファイル名にパスを含めないでください。", "A file name must not carry a path."))
	}
	return bad
}

func orReport(path string) string {
	if path == "" {
		return "report"
	}
	return path
}

// Violation is one thing that is wrong, with its remedy in both languages.
func Violation(field, reason, ja, en string) rpc.Violation {
	return rpc.Violation{Field: field, Reason: reason, Japanese: ja, English: en}
}

// Missing names a field that a first report must carry and what to do.
func Missing(field string) rpc.Violation {
	switch field {
	case "tlp":
		return Violation(field, "TLP_MISSING",
			"TLP の表示がありません。--tlp に TLP:RED, TLP:AMBER+STRICT, TLP:AMBER, TLP:GREEN, TLP:CLEAR のいずれかを指定してください。",
			"The report has no TLP label. Give --tlp one of TLP:RED, TLP:AMBER+STRICT, TLP:AMBER, TLP:GREEN, TLP:CLEAR.")
	case "title":
		return Violation(field, "TITLE_MISSING", "件名がありません (--title)。", "The title is missing (--title).")
	case "summary":
		return Violation(field, "SUMMARY_MISSING", "概要がありません。一文でかまいません (-m または --text)。",
			"The summary is missing. One sentence is enough (-m or --text).")
	case "reporter", "reporter.organisation", "reporter.contacts":
		return Violation(field, "REPORTER_MISSING",
			"情報連絡元の組織名と窓口 (2名以上) がありません。minato node profile で一度だけ登録してください。",
			"The reporting organisation and its contacts (two or more) are missing. Register them once: minato node profile")
	}
	return Violation(field, "FIELD_MISSING",
		fmt.Sprintf("必須の項目 %s がありません。不明なら UNKNOWN としてください。", field),
		fmt.Sprintf("The field %s is required. Use UNKNOWN where you do not know.", field))
}
