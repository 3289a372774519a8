/** What allows this page's own <style> elements; the gateway makes one for each answer. */
export function nonce(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? "";
}
