import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The gateway serves what is built here, with a nonce of its own for each answer.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../gateway/console/dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
  },
  server: { proxy: { "/admin": "http://127.0.0.1:8001" } },
});
