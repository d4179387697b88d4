import { defineConfig } from "vite";

// TIDEWALL_URL lets `vite` serve the sources against a running server.
const server = process.env["TIDEWALL_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  build: {
    target: "es2022",
    // A data: URL would break `default-src 'self'`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: { input: ["index.html", "login.html"] },
  },
  server: {
    proxy: {
      "/api": { target: server, ws: true },
      "^/log(in|out)(\\?|$)": { target: server },
    },
  },
});
