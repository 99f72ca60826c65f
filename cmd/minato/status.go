package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) statusCommand() *cobra.Command {
	return a.command("status", about{
		short:   Text{"ノードの状態を一画面で表示します", "Show on one screen how the node is"},
		example: "minato status",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			s, err := n.GetStatus(ctx, &pb.GetStatusRequest{})
			if err != nil {
				return err
			}
			if a.json {
				return errors.Join(a.emitFull(s), a.warn(s))
			}
			hub := a.t("接続", "connected")
			if !s.GetConnected() {
				hub = a.t("未接続", "not connected")
				if s.GetDisconnectReason() != "" {
					hub += ": " + reasonText(s.GetDisconnectReason()).in(a.lang)
				}
			}
			for _, alarm := range s.GetKeyAlarms() {
				if err := a.sayText(textf("⚠ 鍵の警告: %s", "⚠ KEY ALARM: %s", plain(bothIn(alarm, a.lang)))); err != nil {
					return err
				}
			}
			if err := a.facts([][2]string{
				{a.t("港", "port"), plain(s.GetPortId())},
				{a.t("会員", "member"), fmt.Sprintf(a.t("%s %s (ノード %d)", "%s %s (node %d)"), plain(s.GetMember()), plain(s.GetMemberName()), s.GetNode())},
				{a.t("ハブ", "hub"), plain(s.GetHubAddress()) + "  " + hub},
				{a.t("証明書", "certificate"), fmt.Sprintf(a.t("%s まで (自動で更新)", "until %s (renewed by itself)"), a.moment(s.GetCertificateExpireTime()))},
				{a.t("送信箱", "outbox"), fmt.Sprintf(a.t("送信待ち %d 件, 拒否 %d 件", "%d queued, %d refused"), s.GetQueued(), s.GetRefused())},
				{a.t("受信箱", "inbox"), fmt.Sprintf(a.t("%d 件, 未応答 %d 件", "%d received, %d without an answer"), s.GetReceived(), s.GetUnacknowledged())},
				{a.t("訓練", "exercises"), fmt.Sprintf(a.t("%d 件", "%d received"), s.GetExercises())},
				{a.t("鍵の指紋", "key"), plain(s.GetKeyFingerprint())},
				{a.t("署名鍵の指紋", "signing key"), plain(s.GetSigningFingerprint())},
			}); err != nil {
				return err
			}
			return a.warn(s)
		})
	})
}

// bothIn is the part in one language of a line that says it in both, Japanese
// first.
func bothIn(line string, l language) string {
	ja, en, both := strings.Cut(line, " / ")
	if both && l == english {
		return en
	}
	return ja
}

// warn says what needs a person soon. Another key in the directory than ours
// means that reports meant for us could be sealed to somebody else, so the
// command fails.
func (a *app) warn(s *pb.GetStatusResponse) error {
	for _, warning := range s.GetWarnings() {
		a.talk(textf("⚠ %s", "⚠ %s", plain(bothIn(warning, a.lang))))
	}
	for _, desk := range s.GetStaleDesks() {
		a.talk(textf("窓口「%s」の連絡先を半年以上確かめていません。正しければ: minato node profile --verify-contacts",
			"nobody has confirmed the contacts of desk %q for half a year. If they are right: minato node profile --verify-contacts", plain(desk)))
	}
	if len(s.GetKeyAlarms()) == 0 {
		return nil
	}
	a.talk(Text{"ハブの名簿が、この会員の鍵として身に覚えのないものを示しています。片付くまで TLP:RED と TLP:AMBER+STRICT を\n送らないよう相手に電話で伝え、ハブの管理者に尋ねてください。指紋の確かめ方: minato members --keys",
		"The hub's directory shows a key of this member that it has not made. Until it is cleared up, tell the others by\ntelephone to send you no TLP:RED or TLP:AMBER+STRICT, and ask the hub's administrator. See: minato members --keys"})
	return told(exitCheck)
}
