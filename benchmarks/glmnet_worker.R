# One long-lived R process that holds the data and runs glmnet on request, so that only the call
# itself is timed. Reads one command a line on stdin, answers one line of JSON on stdout.
# Driven by bench_glmnet.py.
suppressPackageStartupMessages(library(glmnet))
glmnet.control(fdev = 0, devmax = 1)  # no early stop, on either side

X <- NULL
Y <- NULL
last <- NULL  # the most recent glmnet fit, as list(lambda, intercept, beta)

now <- function() as.numeric(Sys.time())

read_npy <- function(path) {
  con <- file(path, "rb")
  on.exit(close(con))
  magic <- readBin(con, "raw", 8)
  stopifnot(identical(magic[2:6], charToRaw("NUMPY")))
  length_bytes <- if (magic[7] == as.raw(1)) 2 else 4
  size <- readBin(con, "integer", 1, size = length_bytes, signed = length_bytes == 4,
                  endian = "little")
  header <- rawToChar(readBin(con, "raw", size))
  descr <- sub(".*'descr': *'([^']*)'.*", "\\1", header)
  fortran <- grepl("'fortran_order': *True", header)
  shape <- sub(".*'shape': *\\(([^)]*)\\).*", "\\1", header)
  shape <- as.numeric(Filter(nzchar, trimws(strsplit(shape, ",")[[1]])))
  values <- switch(descr,
    "<f8" = readBin(con, "double", prod(shape), size = 8, endian = "little"),
    "<i4" = readBin(con, "integer", prod(shape), size = 4, endian = "little"),
    stop("read_npy: descr must be <f8 or <i4, got ", descr))
  stopifnot(length(values) == prod(shape))
  if (length(shape) < 2) return(values)
  if (fortran) matrix(values, shape[1], shape[2]) else
    matrix(values, shape[1], shape[2], byrow = TRUE)
}

write_npy <- function(values, path) {  # vector, or matrix in Fortran order
  shape <- if (is.matrix(values)) dim(values) else length(values)
  shape <- if (length(shape) == 1) sprintf("(%d,)", shape) else
    sprintf("(%d, %d)", shape[1], shape[2])
  order <- if (is.matrix(values)) "True" else "False"
  header <- sprintf("{'descr': '<f8', 'fortran_order': %s, 'shape': %s, }", order, shape)
  header <- paste0(header, strrep(" ", (-(10 + nchar(header) + 1)) %% 64), "\n")
  con <- file(path, "wb")
  on.exit(close(con))
  writeBin(as.raw(c(0x93, utf8ToInt("NUMPY"), 1, 0)), con)
  writeBin(nchar(header), con, size = 2, endian = "little")
  writeBin(charToRaw(header), con)
  writeBin(as.double(values), con, endian = "little")
}

json_numbers <- function(x) {
  text <- ifelse(is.finite(x), sprintf("%.17g", x), "null")
  paste0("[", paste(text, collapse = ","), "]")
}

json_text <- function(x) paste0('"', gsub('(["\\\\])', "\\\\\\1", gsub("[[:cntrl:]]", " ", x)), '"')

answer <- function(...) {
  fields <- list(...)
  body <- paste(sprintf('"%s": %s', names(fields), unlist(fields)), collapse = ", ")
  cat("{", body, "}\n", sep = "")
  flush(stdout())
}

# Runs `call`, collecting warnings: glmnet reports "did not converge" that way.
timed <- function(call) {
  warnings <- character()
  gc()  # the garbage of earlier runs is not this run's time
  start <- now()
  value <- withCallingHandlers(call(), warning = function(w) {
    warnings <<- c(warnings, conditionMessage(w))
    invokeRestart("muffleWarning")
  })
  list(value = value, seconds = now() - start, warnings = warnings)
}

lasso_grid <- function(count, ratio) {  # one row per response
  centred <- scale(Y, scale = FALSE)
  # Centring X does not change X'y for centred y.
  top <- apply(abs(crossprod(X, centred)) / nrow(X), 2, max)
  t(sapply(top, function(t) t * exp(seq(0, log(ratio), length.out = count))))
}

ridge_grid <- function(count, ratio) {  # one row for all
  centred <- scale(X, scale = FALSE)
  kernel <- if (nrow(X) < ncol(X)) tcrossprod(centred) else crossprod(centred)
  top <- max(eigen(kernel / nrow(X), symmetric = TRUE, only.values = TRUE)$values)
  top * exp(seq(0, log(ratio), length.out = count))
}

# Objective and duality gap of design.md, sections 2 and 4, Lasso with intercept, equal weights,
# both relative to the null loss; recomputed from X, y and the coefficients alone.
quality <- function(y, fit) {
  n <- nrow(X)
  null_loss <- sum((y - mean(y))^2) / (2 * n)
  gap <- objective <- numeric(length(fit$lambda))
  for (first in seq(1, length(fit$lambda), by = 10)) {  # by blocks: p x 100 is large
    block <- first:min(first + 9, length(fit$lambda))
    beta <- as.matrix(fit$beta[, block, drop = FALSE])
    residual <- y - X %*% beta - rep(fit$intercept[block], each = n)
    q <- sweep(residual, 2, colMeans(residual))
    g <- crossprod(X, q) / n
    for (k in seq_along(block)) {
      lambda <- fit$lambda[block[k]]
      b <- beta[, k]
      q_norm <- sum(q[, k]^2) / n
      s <- min(1, lambda / max(abs(g[, k])))
      # The gap is quadratic in s with its minimum at 1 + b'g / |q|^2.
      s <- max(0, min(s, 1 + sum(b * g[, k]) / q_norm))
      gap[block[k]] <- (sum((residual[, k] - q[, k])^2) / n / 2 + (1 - s)^2 / 2 * q_norm +
        sum(lambda * abs(b) - s * b * g[, k])) / null_loss
      objective[block[k]] <- (sum(residual[, k]^2) / (2 * n) + lambda * sum(abs(b))) / null_loss
    }
  }
  list(gap = gap, objective = objective, nonzero = colSums(fit$beta != 0))
}

commands <- list(
  versions = function() {
    answer(r = json_text(R.version.string), glmnet = json_text(as.character(packageVersion("glmnet"))),
           blas = json_text(extSoftVersion()[["BLAS"]]))
  },
  load = function(folder) {
    X <<- NULL
    gc()
    X <<- read_npy(file.path(folder, "X.npy"))
    Y <<- read_npy(file.path(folder, "Y.npy"))
    if (!is.matrix(Y)) Y <<- matrix(Y, ncol = 1)
    answer(n_samples = nrow(X), n_features = ncol(X), n_responses = ncol(Y))
  },
  grid = function(kind, count, ratio, path) {
    make <- list(lasso = lasso_grid, ridge = ridge_grid)[[kind]]
    grid <- make(as.integer(count), as.numeric(ratio))
    write_npy(if (is.matrix(grid) && nrow(grid) == 1) as.vector(grid) else grid, path)
    answer(lambda_max = max(grid))
  },
  fit = function(grid, thresh, maxit) {
    lambda <- read_npy(grid)
    options <- list(X, Y[, 1], lambda = lambda, standardize = FALSE, maxit = as.numeric(maxit))
    if (thresh != "default") options$thresh <- as.numeric(thresh)
    run <- timed(function() do.call(glmnet, options))
    last <<- list(lambda = run$value$lambda, intercept = run$value$a0, beta = run$value$beta)
    answer(seconds = sprintf("%.6f", run$seconds), n_lambdas = length(run$value$lambda),
           warnings = json_text(paste(run$warnings, collapse = "; ")))
  },
  # Quality of the last glmnet fit.
  quality = function() {
    result <- quality(Y[, 1], last)
    answer(gap = json_numbers(result$gap), objective = json_numbers(result$objective),
           nonzero = json_numbers(result$nonzero))
  },
  # Quality of coefficients written by bench_glmnet.py.
  referee = function(grid, folder) {
    lambda <- read_npy(grid)
    beta <- Matrix::sparseMatrix(
      i = read_npy(file.path(folder, "indices.npy")), p = read_npy(file.path(folder, "indptr.npy")),
      x = read_npy(file.path(folder, "values.npy")), index1 = FALSE,
      dims = c(ncol(X), length(lambda)))
    fit <- list(lambda = lambda, intercept = read_npy(file.path(folder, "intercept.npy")),
                beta = beta)
    result <- quality(Y[, 1], fit)
    answer(gap = json_numbers(result$gap), objective = json_numbers(result$objective),
           nonzero = json_numbers(result$nonzero))
  },
  # cv.glmnet for each of `responses` (0-based, comma separated), on given folds and lambdas.
  cv = function(responses, grid, folds, alpha) {
    grid <- read_npy(grid)
    folds <- read_npy(folds) + 1
    alpha <- as.numeric(alpha)
    seconds <- numeric()
    errors <- character()
    warnings <- character()
    start <- now()
    for (r in as.integer(strsplit(responses, ",")[[1]]) + 1) {
      y <- Y[, r]
      lambda <- if (is.matrix(grid)) grid[r, ] else grid
      # glmnet divides the L2 part by sd(y): this makes it the same problem.
      if (alpha == 0) lambda <- lambda * sqrt(mean((y - mean(y))^2))
      run <- timed(function() {
        cv.glmnet(X, y, lambda = lambda, foldid = folds, alpha = alpha, standardize = FALSE)
      })
      seconds <- c(seconds, run$seconds)
      errors <- c(errors, json_numbers(run$value$cvm))
      warnings <- c(warnings, run$warnings)
    }
    answer(elapsed = sprintf("%.6f", now() - start), seconds = json_numbers(seconds),
           errors = paste0("[", paste(errors, collapse = ","), "]"),
           warnings = json_text(paste(unique(warnings), collapse = "; ")))
  })

# The first call of a session compiles R code and loads methods: not glmnet's usual time.
invisible(cv.glmnet(matrix(sin(1:2000), 100), cos(1:100), nfolds = 3))
invisible(cv.glmnet(matrix(sin(1:2000), 100), cos(1:100), nfolds = 3, alpha = 0))

input <- file("stdin", "r")
while (length(line <- readLines(input, 1)) == 1) {
  words <- strsplit(line, "\t")[[1]]
  tryCatch(do.call(commands[[words[1]]], as.list(words[-1])),
           error = function(e) answer(error = json_text(conditionMessage(e))))
}
